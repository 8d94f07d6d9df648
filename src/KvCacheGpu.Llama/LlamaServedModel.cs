using KvCacheGpu.Serving;

namespace KvCacheGpu.Llama;

/// <summary>A model directory as a scheduler serves it: the model with its decoder, tokenizer and chat template.</summary>
/// <remarks>Thread safety: its properties may be read from any thread; the decoder is the scheduler's.</remarks>
public sealed class LlamaServedModel : IDisposable
{
    private LlamaServedModel(LlamaModel model, LlamaDecoder decoder, KvServedModel served) => (Model, Decoder, Served) = (model, decoder, served);

    /// <summary>The model, with whose geometry a cache is made.</summary>
    public LlamaModel Model { get; }

    /// <summary>Its forward pass.</summary>
    public LlamaDecoder Decoder { get; }

    /// <summary>What a scheduler takes.</summary>
    public KvServedModel Served { get; }

    /// <summary>Loads a directory. Without a tokenizer or chat template that is supported it is served all the same, with <see cref="KvServedModel.ChatTemplateRefusal"/>.</summary>
    /// <param name="directory">The directory, in Hugging Face layout.</param>
    /// <param name="name">The name that clients ask for. The default value is null: the directory's own.</param>
    /// <param name="maxBatchTokens">The most tokens of one forward pass. The default value is 512.</param>
    /// <param name="clock">Gives the date to chat templates that write it. The default value is null: the computer's clock.</param>
    /// <exception cref="LlamaFormatException">The model cannot be loaded, as <see cref="LlamaModel.Load"/> has it.</exception>
    public static LlamaServedModel Load(string directory, string? name = null, int maxBatchTokens = 512, TimeProvider? clock = null)
    {
        LlamaModel model = LlamaModel.Load(directory);
        LlamaDecoder? decoder = null;
        try
        {
            decoder = new LlamaDecoder(model, maxBatchTokens);
            (LlamaChatTemplate? template, string? refusal) = Template(model, clock ?? TimeProvider.System);
            KvServedModel served = new(name ?? model.Name, decoder) { Tokenizer = model.Tokenizer, ChatTemplate = template, ChatTemplateRefusal = refusal };
            return new LlamaServedModel(model, decoder, served);
        }
        catch
        {
            decoder?.Dispose();
            model.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Decoder.Dispose();
        Model.Dispose();
    }

    private static (LlamaChatTemplate? Template, string? Refusal) Template(LlamaModel model, TimeProvider clock)
    {
        if (model.Tokenizer is null)
        {
            return (null, model.TokenizerRefusal?.Message ?? $"{model.Name} has no tokenizer, without which no text is served");
        }

        try
        {
            return LlamaChatTemplate.Load(model.Directory, clock) is { } template
                ? (template, null)
                : (null, $"{model.Name} has no chat template: neither chat_template.jinja nor chat_template in tokenizer_config.json");
        }
        catch (LlamaFormatException refusal)
        {
            return (null, refusal.Message);
        }
    }
}
