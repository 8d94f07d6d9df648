using System.Runtime.CompilerServices;
using System.Text;
using System.Threading.Channels;

namespace KvCacheGpu.Serving;

/// <summary>A request that a scheduler has taken. Its pieces are read once, as they come or all together; it ends whether or not they are read.</summary>
/// <remarks>Thread safety: members may be called from any thread; one reader at a time.</remarks>
public sealed class KvGeneration
{
    private readonly Channel<KvPiece> _pieces = Channel.CreateUnbounded<KvPiece>(new UnboundedChannelOptions { SingleWriter = true });
    private readonly Action<KvGeneration> _cancel;
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Lock _gate = new();
    private KvUsage _usage;

    internal KvGeneration(long id, KvRequest request, Action<KvGeneration> cancel) =>
        (Id, Request, _cancel, _usage) = (id, request, cancel, new KvUsage { PromptTokens = request.Prompt.Count });

    /// <summary>A number that no other request of the scheduler has; they ascend.</summary>
    public long Id { get; }

    /// <summary>The request.</summary>
    public KvRequest Request { get; }

    /// <summary>What it has taken so far.</summary>
    public KvUsage Usage
    {
        get
        {
            lock (_gate)
            {
                return _usage;
            }
        }
    }

    /// <summary>What failed, if an answer ended so; null otherwise.</summary>
    public Exception? Failure { get; private set; }

    /// <summary>Ends when every answer has, and never fails.</summary>
    public Task Ended => _ended.Task;

    /// <summary>Ends the request before the next step; its answers end as <see cref="KvFinish.Cancelled"/>. Does nothing once it has ended.</summary>
    public void Cancel() => _cancel(this);

    /// <summary>Reads the pieces of all answers as they come, each answer's in order.</summary>
    /// <param name="cancellationToken">Ends the reading and cancels the request.</param>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public async IAsyncEnumerable<KvPiece> ReadAllAsync([EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        bool ended = false;
        try
        {
            await foreach (KvPiece piece in _pieces.Reader.ReadAllAsync(cancellationToken).ConfigureAwait(false))
            {
                yield return piece;
            }

            ended = true;
        }
        finally
        {
            // A reader that leaves early wants no more of it.
            if (!ended)
            {
                Cancel();
            }
        }
    }

    /// <summary>Waits for whole answers.</summary>
    /// <param name="cancellationToken">Ends the wait and cancels the request.</param>
    /// <returns>The answers, in order.</returns>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public async Task<IReadOnlyList<KvAnswer>> CompleteAsync(CancellationToken cancellationToken = default)
    {
        int choices = Request.Choices;
        List<int>[] tokens = [.. Enumerable.Range(0, choices).Select(_ => new List<int>())];
        List<KvLogprobs>[] logprobs = [.. tokens.Select(_ => new List<KvLogprobs>())];
        StringBuilder[] texts = [.. tokens.Select(_ => new StringBuilder())];
        KvFinish[] finishes = new KvFinish[choices];
        await foreach (KvPiece piece in ReadAllAsync(cancellationToken).ConfigureAwait(false))
        {
            texts[piece.Choice].Append(piece.Text);
            finishes[piece.Choice] = piece.Finish ?? finishes[piece.Choice];
            if (piece.Token is { } token)
            {
                tokens[piece.Choice].Add(token);
            }

            if (piece.Logprobs is { } known)
            {
                logprobs[piece.Choice].Add(known);
            }
        }

        return [.. Enumerable.Range(0, choices).Select(i => new KvAnswer(tokens[i], texts[i].ToString(), finishes[i], logprobs[i]))];
    }

    internal void Write(KvPiece piece) => _pieces.Writer.TryWrite(piece);

    internal void Count(Func<KvUsage, KvUsage> change)
    {
        lock (_gate)
        {
            _usage = change(_usage);
        }
    }

    internal void Fail(Exception failure) => Failure ??= failure;

    internal void End()
    {
        _pieces.Writer.Complete();
        _ended.SetResult();
    }
}

/// <summary>What a request has taken. Thread safety: it never changes.</summary>
public readonly record struct KvUsage
{
    /// <summary>Tokens of the prompt.</summary>
    public int PromptTokens { get; init; }

    /// <summary>Tokens of the prompt that were not computed, since the cache or a lower tier had them when the request first began.</summary>
    public int ReusedTokens { get; init; }

    /// <summary>Tokens of all answers.</summary>
    public int NewTokens { get; init; }

    /// <summary>Tokens that were guessed ahead.</summary>
    public int DraftTokens { get; init; }

    /// <summary>Guessed tokens that were right: each saved a step.</summary>
    public int AcceptedTokens { get; init; }

    /// <summary>How often an answer lost its place to others and had to come back.</summary>
    public int Preemptions { get; init; }

    /// <summary>Time from submission to the first token; null before it.</summary>
    public TimeSpan? TimeToFirstToken { get; init; }

    /// <summary>Time from submission to the last answer's end; null before it.</summary>
    public TimeSpan? Time { get; init; }
}
