using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>Reads a request, has it generated, and writes the answers, whole or as they come.</summary>
internal sealed class GenerationEndpoint(KvScheduler scheduler, KvServedModel model, KvServerOptions options, ILogger<KvServer> logger)
{
    /// <summary>Serves <c>/v1/chat/completions</c>.</summary>
    public Task ChatAsync(HttpContext context, Caller caller) => RunAsync(context, caller, root => ChatRequest.Read(root, model), "messages", new ChatAnswer(model));

    /// <summary>Serves <c>/v1/completions</c>.</summary>
    public Task CompleteAsync(HttpContext context, Caller caller) =>
        RunAsync(context, caller, root => CompletionRequest.Read(root, model, options.MaxPrompts), "prompt", new CompletionAnswer(model));

    private async Task RunAsync(HttpContext context, Caller caller, Func<JsonElement, ParsedRequest> read, string field, IAnswerShape shape)
    {
        ParsedRequest parsed;
        using (JsonDocument body = await RequestBody.ReadAsync(context, options).ConfigureAwait(false))
        {
            try
            {
                parsed = read(body.RootElement);
            }
            catch (InvalidOperationException)
            {
                throw ApiError.Invalid("body: expected texts of whole characters, got half of a surrogate pair", null, "invalid_json");
            }
        }

        if (parsed.Settings.Priority > 0 && !caller.IsAdmin)
        {
            throw ApiError.Forbidden();
        }

        RunningAnswers answers = Submit(parsed, caller, field, context.RequestAborted);
        try
        {
            await AnswerAsync(context, parsed, answers, AnswerHead.Create(shape.IdPrefix), shape).ConfigureAwait(false);
        }
        finally
        {
            // If one of several failed, the others are of no use.
            answers.Cancel();
        }
    }

    private async Task AnswerAsync(HttpContext context, ParsedRequest parsed, RunningAnswers answers, AnswerHead head, IAnswerShape shape)
    {
        if (parsed.Settings.IsStream)
        {
            await StreamAsync(context, parsed, answers, head, shape).ConfigureAwait(false);
            return;
        }

        IReadOnlyList<KvAnswer> whole = await answers.CompleteAsync(context.RequestAborted).ConfigureAwait(false);
        ThrowIfNotEnded(whole.Select(one => one.Finish), answers);
        await shape.WriteWholeAsync(context, head, whole, answers.Usage).ConfigureAwait(false);
    }

    private RunningAnswers Submit(ParsedRequest parsed, Caller caller, string field, CancellationToken cancellationToken)
    {
        try
        {
            return RunningAnswers.Submit(scheduler, parsed.For(caller.Tenant, options, scheduler.MaxTokens, field), parsed.Settings.Choices, cancellationToken);
        }
        catch (KvRequestRefusedException refusal)
        {
            throw Refusals.Of(refusal, field);
        }
    }

    private async Task StreamAsync(HttpContext context, ParsedRequest parsed, RunningAnswers answers, AnswerHead head, IAnswerShape shape)
    {
        CancellationToken gone = context.RequestAborted;
        int count = parsed.Prompts.Count * parsed.Settings.Choices;
        EventStream? stream = null;
        KvFinish?[] finishes = new KvFinish?[count];
        await foreach ((int index, KvPiece piece) in answers.ReadAllAsync(gone).ConfigureAwait(false))
        {
            finishes[index] = piece.Finish ?? finishes[index];
            if (stream is null)
            {
                // What fails before its first token is answered by a status.
                ThrowIfNotEnded([piece.Finish ?? KvFinish.Stop], answers);
                stream = EventStream.Begin(context.Response);
                await shape.WriteFirstAsync(stream, head, count, gone).ConfigureAwait(false);
            }

            await shape.WritePieceAsync(stream, head, index, piece, gone).ConfigureAwait(false);
        }

        ApiError? error = ErrorOf(finishes.Select(finish => finish ?? KvFinish.Failed), answers);
        if (error is not null)
        {
            await stream!.WriteAsync(error.Body, WireJson.Default.ErrorBody, gone).ConfigureAwait(false);
        }
        else if (parsed.Settings.IncludesUsage)
        {
            await shape.WriteUsageAsync(stream!, head, answers.Usage, gone).ConfigureAwait(false);
        }

        await stream!.EndAsync(gone).ConfigureAwait(false);
    }

    private void ThrowIfNotEnded(IEnumerable<KvFinish> finishes, RunningAnswers answers)
    {
        if (ErrorOf(finishes, answers) is { } error)
        {
            throw error;
        }
    }

    private ApiError? ErrorOf(IEnumerable<KvFinish> finishes, RunningAnswers answers)
    {
        if (answers.Failure is { } failure)
        {
            logger.AnswerFailed(failure);
        }

        return finishes.Select(finish => ApiError.Of(finish, answers.Failure)).FirstOrDefault(error => error is not null);
    }
}
