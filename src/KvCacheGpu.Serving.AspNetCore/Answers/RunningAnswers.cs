using System.Runtime.CompilerServices;
using System.Threading.Channels;

namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>The generations of one request, one for each prompt. Answer c of prompt p has index p * n + c.</summary>
internal sealed class RunningAnswers(IReadOnlyList<KvGeneration> generations, int choices)
{
    /// <summary>What all took together.</summary>
    public WireUsage Usage
    {
        get
        {
            KvUsage[] all = [.. generations.Select(one => one.Usage)];
            int prompt = all.Sum(one => one.PromptTokens);
            int answer = all.Sum(one => one.NewTokens);
            int right = all.Sum(one => one.AcceptedTokens);
            return new WireUsage(prompt, answer, prompt + answer, new PromptDetails(all.Sum(one => one.ReusedTokens)), new CompletionDetails(right, all.Sum(one => one.DraftTokens) - right));
        }
    }

    /// <summary>What failed; null if nothing did.</summary>
    public Exception? Failure => generations.Select(one => one.Failure).FirstOrDefault(failure => failure is not null);

    /// <summary>Submits a request's prompts, all or none.</summary>
    /// <exception cref="KvRequestRefusedException">One was refused; the others are cancelled.</exception>
    public static RunningAnswers Submit(KvScheduler scheduler, IEnumerable<KvRequest> requests, int choices, CancellationToken cancellationToken)
    {
        List<KvGeneration> taken = [];
        try
        {
            foreach (KvRequest request in requests.ToArray())
            {
                taken.Add(scheduler.Submit(request, cancellationToken));
            }
        }
        catch
        {
            taken.ForEach(one => one.Cancel());
            throw;
        }

        return new RunningAnswers(taken, choices);
    }

    /// <summary>Ends what has not ended: nobody reads it.</summary>
    public void Cancel()
    {
        foreach (KvGeneration generation in generations)
        {
            generation.Cancel();
        }
    }

    /// <summary>Waits for whole answers, in the order of their indexes.</summary>
    public async Task<IReadOnlyList<KvAnswer>> CompleteAsync(CancellationToken cancellationToken)
    {
        IReadOnlyList<KvAnswer>[] all = await Task.WhenAll(generations.Select(one => one.CompleteAsync(cancellationToken))).ConfigureAwait(false);
        return [.. all.SelectMany(one => one)];
    }

    /// <summary>Reads pieces as they come, each with its index.</summary>
    public async IAsyncEnumerable<(int Index, KvPiece Output)> ReadAllAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        Channel<(int Index, KvPiece Output)> merged = Channel.CreateUnbounded<(int Index, KvPiece Output)>();
        Task all = Task.WhenAll(generations.Select((one, prompt) => CopyAsync(one, prompt * choices, merged.Writer, cancellationToken)));
        _ = all.ContinueWith(done => merged.Writer.Complete(done.Exception?.InnerException), CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default);
        await foreach ((int Index, KvPiece Output) one in merged.Reader.ReadAllAsync(cancellationToken).ConfigureAwait(false))
        {
            yield return one;
        }
    }

    private static async Task CopyAsync(KvGeneration generation, int first, ChannelWriter<(int Index, KvPiece Output)> to, CancellationToken cancellationToken)
    {
        await foreach (KvPiece piece in generation.ReadAllAsync(cancellationToken).ConfigureAwait(false))
        {
            to.TryWrite((first + piece.Choice, piece));
        }
    }
}
