using KvCacheGpu.Serving;
using Scriban.Runtime;
using Scriban.Syntax;

namespace KvCacheGpu.Llama;

/// <summary>
/// The chat template of a model directory, which is written in Jinja. The part of Jinja that published templates use is translated and rendered
/// exactly as transformers does; a template with anything else is refused when it is loaded, and docs/chat-templates.md lists both. A template comes
/// with a model that somebody else wrote: it sees nothing but the conversation and the special tokens, and its work and output are limited.
/// </summary>
/// <remarks>Thread safety: members may be called from any thread at once.</remarks>
public sealed class LlamaChatTemplate : IKvChatTemplate
{
    private const int MostLetters = 1 << 18;
    private const string Supported = "the Jinja of docs/chat-templates.md";

    private readonly string _name;
    private readonly ScriptBlockStatement _page;
    private readonly IReadOnlyDictionary<string, string> _tokens;
    private readonly TimeProvider? _clock;

    private LlamaChatTemplate(ChatTemplateFile file, TimeProvider? clock)
    {
        (Source, _name, _tokens, _clock) = (file.Source, file.Name, file.Tokens, clock);
        try
        {
            if (Source.Length > MostLetters)
            {
                throw new JinjaException($"one of {Source.Length} letters, which is more than {MostLetters}");
            }

            (_page, IReadOnlySet<string> names) = JinjaParser.Parse(Source, clock is not null);
            if (file.Unknown.FirstOrDefault(names.Contains) is { } unknown)
            {
                throw new JinjaException($"'{unknown}', whose text no file of the model has");
            }

            if (names.Contains("additional_special_tokens"))
            {
                throw new JinjaException("'additional_special_tokens'");
            }
        }
        catch (JinjaException error)
        {
            LlamaFormatException.ThrowUnsupported(_name, $"line {Math.Max(error.Line, 1)}", Supported, error.Message);
            throw;
        }
    }

    /// <summary>The template as the model's author wrote it.</summary>
    public string Source { get; }

    /// <summary>Reads a model directory: chat_template.jinja, or chat_template in tokenizer_config.json, of several the one named "default".</summary>
    /// <param name="directory">The directory.</param>
    /// <param name="clock">Gives the date to templates that write it (Llama 3.2). The default value is null: such templates are refused.</param>
    /// <returns>The template; null if the directory has none.</returns>
    /// <exception cref="LlamaFormatException">A file is malformed (E004), or the template uses what is not supported (E009).</exception>
    public static LlamaChatTemplate? Load(string directory, TimeProvider? clock = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        return ChatTemplateFile.Read(directory) is { } file ? new LlamaChatTemplate(file, clock) : null;
    }

    /// <summary>Reads a template that is no file.</summary>
    /// <param name="source">The template.</param>
    /// <param name="specialTokens">Texts by name, as <c>bos_token</c>. The default value is null: none.</param>
    /// <param name="clock">Gives the date to templates that write it. The default value is null: such templates are refused.</param>
    /// <exception cref="LlamaFormatException">The template uses what is not supported (E009).</exception>
    public static LlamaChatTemplate Parse(string source, IReadOnlyDictionary<string, string>? specialTokens = null, TimeProvider? clock = null)
    {
        ArgumentNullException.ThrowIfNull(source);
        Dictionary<string, string> tokens = new(specialTokens ?? new Dictionary<string, string>(), StringComparer.Ordinal);
        if (tokens.Keys.FirstOrDefault(k => !ChatTemplateFile.TokenNames.Contains(k)) is { } other)
        {
            throw new ArgumentException($"expected names of {string.Join(", ", ChatTemplateFile.TokenNames)}, got {other}", nameof(specialTokens));
        }

        return new LlamaChatTemplate(new ChatTemplateFile("chat template", source, tokens, []), clock);
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">
    /// The template refuses these messages (the text is its own), Python would refuse what it does with them, or they take more work or output than is allowed.
    /// </exception>
    public string Render(IReadOnlyList<KvChatMessage> messages, bool addGenerationPrompt)
    {
        ArgumentNullException.ThrowIfNull(messages);
        ScriptObject names = [];
        foreach ((string name, string text) in _tokens)
        {
            names.SetValue(name, text, readOnly: false);
        }

        names.SetValue("messages", new JinjaList([.. messages.Select(Message)]), readOnly: false);
        names.SetValue("add_generation_prompt", addGenerationPrompt, readOnly: false);
        // As transformers gives them when there are none.
        names.SetValue("tools", JinjaNone.Value, readOnly: false);
        names.SetValue("documents", JinjaNone.Value, readOnly: false);
        JinjaContext context = new(names, messages.Sum(m => (long)m.Role.Length + m.Content.Length), _clock);
        try
        {
            return context.Capture(_page);
        }
        catch (Exception error) when ((error as JinjaException ?? error.InnerException as JinjaException) is { } cause)
        {
            // Scriban wraps what some of its nodes throw.
            string message = cause.IsRaised ? cause.Message : $"{_name}, line {cause.Line}: expected what Jinja can render, got {cause.Message}";
            throw new ArgumentException(message, cause);
        }
        catch (ScriptRuntimeException error)
        {
            throw new ArgumentException($"{_name}: {error.OriginalMessage}", error);
        }
    }

    private static JinjaDict Message(KvChatMessage message) => message is { Role: not null, Content: not null }
        ? new JinjaDict(new OrderedDictionary<string, object> { ["role"] = message.Role, ["content"] = message.Content })
        : throw new ArgumentException("expected messages with a role and a content, got null", nameof(message));
}
