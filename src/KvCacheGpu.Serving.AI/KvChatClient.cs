using System.Runtime.CompilerServices;
using Microsoft.Extensions.AI;

namespace KvCacheGpu.Serving.AI;

/// <summary>A model that a scheduler serves, as a client for conversations. Model and scheduler are borrowed.</summary>
/// <remarks>Thread safety: members may be called from any thread at once.</remarks>
public sealed class KvChatClient : IChatClient
{
    private readonly KvServedModel _model;
    private readonly KvScheduler _scheduler;
    private readonly ChatClientMetadata _metadata;

    /// <summary>Makes a client.</summary>
    /// <param name="model">The model, with a tokenizer and a chat template.</param>
    /// <param name="scheduler">What serves it; made with <see cref="KvSchedulerOptions.Tokenizer"/>.</param>
    /// <exception cref="ArgumentException">The model has no tokenizer, or no chat template: the message says why.</exception>
    public KvChatClient(KvServedModel model, KvScheduler scheduler)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(scheduler);
        if (model.Tokenizer is null || model.ChatTemplate is null)
        {
            string why = model.Tokenizer is null ? "no tokenizer" : model.ChatTemplateRefusal ?? "no chat template";
            throw new ArgumentException($"expected a model that takes conversations, got one with: {why}", nameof(model));
        }

        (_model, _scheduler, _metadata) = (model, scheduler, new ChatClientMetadata("kvcachegpu", null, model.Name));
    }

    /// <inheritdoc/>
    /// <exception cref="NotSupportedException">A message or an option asks for what is not served; the message names it.</exception>
    /// <exception cref="KvRequestRefusedException">The scheduler does not take the request.</exception>
    /// <exception cref="InvalidOperationException">The answer has not come to its end: it failed, or the scheduler was closed.</exception>
    /// <exception cref="TimeoutException">The deadline came first.</exception>
    public async Task<ChatResponse> GetResponseAsync(IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        KvGeneration generation = Submit(messages, options, cancellationToken);
        KvAnswer answer = (await generation.CompleteAsync(cancellationToken).ConfigureAwait(false))[0];
        ThrowIfNotEnded(answer.Finish, generation);
        return new ChatResponse(new ChatMessage(ChatRole.Assistant, answer.Text))
        {
            ResponseId = IdOf(generation),
            ModelId = _model.Name,
            CreatedAt = DateTimeOffset.UtcNow,
            FinishReason = ReasonOf(answer.Finish),
            Usage = UsageOf(generation.Usage),
            RawRepresentation = answer,
        };
    }

    /// <inheritdoc/>
    /// <inheritdoc cref="GetResponseAsync" path="/exception"/>
    public async IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        KvGeneration generation = Submit(messages, options, cancellationToken);
        string id = IdOf(generation);
        await foreach (KvPiece piece in generation.ReadAllAsync(cancellationToken).ConfigureAwait(false))
        {
            if (piece.Finish is { } finish)
            {
                ThrowIfNotEnded(finish, generation);
                yield return Update([new TextContent(piece.Text), new UsageContent(UsageOf(generation.Usage))], ReasonOf(finish), piece);
            }
            else if (piece.Text.Length > 0)
            {
                yield return Update([new TextContent(piece.Text)], null, piece);
            }
        }

        ChatResponseUpdate Update(IList<AIContent> contents, ChatFinishReason? reason, KvPiece piece) => new(ChatRole.Assistant, contents)
        {
            ResponseId = id,
            MessageId = id,
            ModelId = _model.Name,
            CreatedAt = DateTimeOffset.UtcNow,
            FinishReason = reason,
            RawRepresentation = piece,
        };
    }

    /// <inheritdoc/>
    public object? GetService(Type serviceType, object? serviceKey = null)
    {
        ArgumentNullException.ThrowIfNull(serviceType);
        object[] known = [this, _metadata, _model, _scheduler];
        return serviceKey is null ? known.FirstOrDefault(serviceType.IsInstanceOfType) : null;
    }

    /// <summary>Does nothing: model and scheduler are borrowed.</summary>
    public void Dispose()
    {
    }

    private KvGeneration Submit(IEnumerable<ChatMessage> messages, ChatOptions? options, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(messages);
        ChatSettings settings = ChatSettings.Of(options ?? new ChatOptions(), _model.Name);
        string text = _model.ChatTemplate!.Render(ChatTexts.Of(messages, options?.Instructions), addGenerationPrompt: true);
        int[] prompt = _model.Tokenizer!.Encode(text, start: false);
        return _scheduler.Submit(
            new KvRequest
            {
                Prompt = prompt,
                MaxNewTokens = settings.MaxNewTokens ?? Math.Max(1, _scheduler.MaxTokens - prompt.Length),
                Sampling = settings.Sampling,
                StopTexts = settings.Stops,
                Tenant = settings.Tenant,
                Priority = settings.Priority,
                Deadline = settings.Deadline,
            },
            cancellationToken);
    }

    private static void ThrowIfNotEnded(KvFinish finish, KvGeneration generation)
    {
        switch (finish)
        {
            case KvFinish.Stop or KvFinish.Length:
                return;
            case KvFinish.Deadline:
                throw new TimeoutException("the answer did not end before its deadline");
            case KvFinish.Cancelled:
                throw new OperationCanceledException("the answer was cancelled");
            case KvFinish.Closed:
                throw new InvalidOperationException("the scheduler was closed before the answer's end");
            default:
                throw new InvalidOperationException("the answer failed", generation.Failure);
        }
    }

    private static ChatFinishReason ReasonOf(KvFinish finish) => finish == KvFinish.Length ? ChatFinishReason.Length : ChatFinishReason.Stop;

    private static UsageDetails UsageOf(KvUsage usage) => new()
    {
        InputTokenCount = usage.PromptTokens,
        OutputTokenCount = usage.NewTokens,
        TotalTokenCount = usage.PromptTokens + usage.NewTokens,
        CachedInputTokenCount = usage.ReusedTokens,
    };

    private static string IdOf(KvGeneration generation) => $"kvchat-{generation.Id}";
}
