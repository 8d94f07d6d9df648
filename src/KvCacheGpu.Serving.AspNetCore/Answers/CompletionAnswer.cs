using System.Collections.Concurrent;
using Microsoft.AspNetCore.Http;

namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>Answers <c>/v1/completions</c>. One for each request: it counts the characters of each answer.</summary>
internal sealed class CompletionAnswer(KvServedModel model) : IAnswerShape
{
    private const string Kind = "text_completion";

    private readonly AnswerTokens _tokens = new(model);
    private readonly ConcurrentDictionary<int, int> _offsets = new();

    /// <inheritdoc/>
    public string IdPrefix => "cmpl-";

    /// <inheritdoc/>
    public Task WriteWholeAsync(HttpContext context, AnswerHead head, IReadOnlyList<KvAnswer> answers, WireUsage usage)
    {
        CompletionChoice[] choices = [.. answers.Select((answer, i) => new CompletionChoice(
            i, answer.Text, WireFinish.Of(answer.Finish), answer.Logprobs.Count == 0 ? null : _tokens.Completion(answer.Logprobs)))];
        return JsonAnswer.WriteAsync(context, new CompletionBody(head.Id, Kind, head.Created, model.Name, choices) { Usage = usage }, WireJson.Default.CompletionBody);
    }

    /// <inheritdoc/>
    public Task WriteFirstAsync(EventStream stream, AnswerHead head, int answers, CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public Task WritePieceAsync(EventStream stream, AnswerHead head, int index, KvPiece piece, CancellationToken cancellationToken)
    {
        CompletionLogprobs? logprobs = piece.Logprobs is { } one ? _tokens.Completion([one], _offsets.GetValueOrDefault(index)) : null;
        if (logprobs is { Tokens: [string text] })
        {
            _offsets[index] = _offsets.GetValueOrDefault(index) + text.Length;
        }

        bool isSilent = piece.Text.Length == 0 && piece.Finish is null && logprobs is not { Tokens.Count: > 0 };
        CompletionChoice choice = new(index, piece.Text, piece.Finish is { } finish ? WireFinish.Of(finish) : null, logprobs);
        return isSilent ? Task.CompletedTask : stream.WriteAsync(new CompletionBody(head.Id, Kind, head.Created, model.Name, [choice]), WireJson.Default.CompletionBody, cancellationToken);
    }

    /// <inheritdoc/>
    public Task WriteUsageAsync(EventStream stream, AnswerHead head, WireUsage usage, CancellationToken cancellationToken) =>
        stream.WriteAsync(new CompletionBody(head.Id, Kind, head.Created, model.Name, []) { Usage = usage }, WireJson.Default.CompletionBody, cancellationToken);
}
