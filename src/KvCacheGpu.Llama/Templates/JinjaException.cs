namespace KvCacheGpu.Llama;

/// <summary>A template that is outside of the supported part of Jinja, or that cannot be rendered with the values it got.</summary>
internal sealed class JinjaException(string message, int line = 0) : Exception(message)
{
    /// <summary>The template's line, from 1; 0 while it is unknown.</summary>
    public int Line { get; set; } = line;

    /// <summary>True if the template itself refuses the conversation: then the message is the template's own.</summary>
    public bool IsRaised { get; init; }
}
