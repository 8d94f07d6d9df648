namespace KvCacheGpu.Serving;

/// <summary>A request while it is worked on. The loop's thread alone touches it.</summary>
internal sealed class RequestRun(KvGeneration generation, long submitted, long? deadline)
{
    /// <summary>What the caller holds.</summary>
    public KvGeneration Generation => generation;

    /// <summary>What was asked for.</summary>
    public KvRequest Request => generation.Request;

    /// <summary>The clock's timestamp at submission.</summary>
    public long Submitted => submitted;

    /// <summary>The clock's timestamp at which the request must have ended; null for none.</summary>
    public long? Deadline => deadline;

    /// <summary>Answers that have not ended, those that are not forked yet counted.</summary>
    public int Left { get; set; } = generation.Request.Choices;

    /// <summary>Answers that are still one with the first, since the prompt is not read to its end.</summary>
    public int Unforked { get; set; } = generation.Request.Choices - 1;

    /// <summary>True once the first answer was admitted.</summary>
    public bool HasBegun { get; set; }

    /// <summary>True once its caller has cancelled it.</summary>
    public bool IsCancelled { get; set; }

    /// <summary>The clock's timestamp of the first token; null before it.</summary>
    public long? FirstToken { get; set; }
}
