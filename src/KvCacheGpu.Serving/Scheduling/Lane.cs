namespace KvCacheGpu.Serving;

/// <summary>
/// One answer while it is generated: tokens that are known, and a sequence that holds the first of them. The others are pending: a prompt that is not read to its end, or the one
/// token that was chosen last. The loop's thread alone touches it.
/// </summary>
internal sealed class Lane(RequestRun run, int choice, List<int> tokens, KvSampler sampler, TextStream? text)
{
    /// <summary>The request.</summary>
    public RequestRun Run => run;

    /// <summary>Which of the request's answers it is.</summary>
    public int Choice => choice;

    /// <summary>The prompt, and the answer so far.</summary>
    public List<int> Tokens => tokens;

    /// <summary>Chooses its tokens.</summary>
    public KvSampler Sampler => sampler;

    /// <summary>Its text; null without a tokenizer.</summary>
    public TextStream? Text => text;

    /// <summary>Its pages; null while it waits without any.</summary>
    public KvSequence? Sequence { get; set; }

    /// <summary>Its pages in host memory, while it waits there; else null.</summary>
    public KvSwapped? Swapped { get; set; }

    /// <summary>How often it lost its place.</summary>
    public int Preemptions { get; set; }

    /// <summary>Tokens of the prompt that its tenant was charged for, or that were reused; those that are computed again are free.</summary>
    public int Charged { get; set; }

    /// <summary>The clock's timestamp of its last token, from which the time between tokens is measured.</summary>
    public long LastToken { get; set; }

    /// <summary>Tokens that the model has not read.</summary>
    public int Pending => tokens.Count - Computed;

    /// <summary>Tokens that its sequence holds.</summary>
    public int Computed => Sequence?.Length ?? 0;

    /// <summary>Tokens of the answer.</summary>
    public int NewTokens => tokens.Count - run.Request.Prompt.Count;

    /// <summary>The most tokens that the answer may still get.</summary>
    public int MostLeft => run.Request.MaxNewTokens - NewTokens;

    /// <summary>Number of answers that it stands for: those that are not forked yet with it.</summary>
    public int Width => 1 + (choice == 0 ? run.Unforked : 0);
}
