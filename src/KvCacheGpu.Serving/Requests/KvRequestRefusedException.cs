namespace KvCacheGpu.Serving;

/// <summary>Why a request was not taken.</summary>
public enum KvRefusal
{
    /// <summary>A setting is out of its range, or needs what the scheduler does not have.</summary>
    Invalid,

    /// <summary>Prompt and answer are longer than the model's context, or than a sequence of the cache.</summary>
    TooLong,

    /// <summary>As many requests wait as may: ask again later.</summary>
    QueueFull,

    /// <summary>The scheduler takes no more requests, since it drains or was disposed.</summary>
    Closed,
}

/// <summary>A request was not taken; nothing has changed. Thread safety: as that of any exception.</summary>
public sealed class KvRequestRefusedException : Exception
{
    /// <summary>Says why.</summary>
    /// <param name="refusal">The reason.</param>
    /// <param name="message">A sentence with numbers.</param>
    /// <param name="parameter">The member of <see cref="KvRequest"/> or <see cref="KvSampling"/> that is at fault; null if none is.</param>
    /// <param name="inner">What led to it.</param>
    public KvRequestRefusedException(KvRefusal refusal, string message, string? parameter = null, Exception? inner = null)
        : base(message, inner) => (Refusal, Parameter) = (refusal, parameter);

    /// <summary>The reason.</summary>
    public KvRefusal Refusal { get; }

    /// <summary>The member of <see cref="KvRequest"/> or <see cref="KvSampling"/> that is at fault; null if none is.</summary>
    public string? Parameter { get; }
}
