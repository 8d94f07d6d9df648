using Microsoft.AspNetCore.Http;

namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>Answers <c>/v1/chat/completions</c>.</summary>
internal sealed class ChatAnswer(KvServedModel model) : IAnswerShape
{
    private readonly AnswerTokens _tokens = new(model);

    /// <inheritdoc/>
    public string IdPrefix => "chatcmpl-";

    /// <inheritdoc/>
    public Task WriteWholeAsync(HttpContext context, AnswerHead head, IReadOnlyList<KvAnswer> answers, WireUsage usage)
    {
        ChatChoice[] choices = [.. answers.Select((answer, i) => new ChatChoice(i, WireFinish.Of(answer.Finish), Logprobs(answer.Logprobs))
        {
            Message = new ChatText { Role = "assistant", Content = answer.Text },
        })];
        return JsonAnswer.WriteAsync(context, new ChatBody(head.Id, "chat.completion", head.Created, model.Name, choices) { Usage = usage }, WireJson.Default.ChatBody);
    }

    /// <inheritdoc/>
    public async Task WriteFirstAsync(EventStream stream, AnswerHead head, int answers, CancellationToken cancellationToken)
    {
        for (int i = 0; i < answers; i++)
        {
            await WriteAsync(stream, head, new ChatChoice(i, null, null) { Delta = new ChatText { Role = "assistant", Content = string.Empty } }, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public Task WritePieceAsync(EventStream stream, AnswerHead head, int index, KvPiece piece, CancellationToken cancellationToken)
    {
        ChatLogprobs? logprobs = piece.Logprobs is { } one ? Logprobs([one]) : null;
        bool isSilent = piece.Text.Length == 0 && piece.Finish is null && logprobs is not { Content.Count: > 0 };
        return isSilent
            ? Task.CompletedTask
            : WriteAsync(stream, head, new ChatChoice(index, null, logprobs) { Delta = new ChatText { Content = piece.Text.Length > 0 || piece.Finish is null ? piece.Text : null } } with
            {
                FinishReason = piece.Finish is { } finish ? WireFinish.Of(finish) : null,
            }, cancellationToken);
    }

    /// <inheritdoc/>
    public Task WriteUsageAsync(EventStream stream, AnswerHead head, WireUsage usage, CancellationToken cancellationToken) =>
        stream.WriteAsync(new ChatBody(head.Id, "chat.completion.chunk", head.Created, model.Name, []) { Usage = usage }, WireJson.Default.ChatBody, cancellationToken);

    private Task WriteAsync(EventStream stream, AnswerHead head, ChatChoice choice, CancellationToken cancellationToken) =>
        stream.WriteAsync(new ChatBody(head.Id, "chat.completion.chunk", head.Created, model.Name, [choice]), WireJson.Default.ChatBody, cancellationToken);

    private ChatLogprobs? Logprobs(IReadOnlyList<KvLogprobs> all) => all.Count == 0 ? null : new ChatLogprobs([.. all.Select(_tokens.Chat).OfType<ChatToken>()]);
}
