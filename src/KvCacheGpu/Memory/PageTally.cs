using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Live pages by class and by who holds them; each counts in one of the four.</summary>
internal sealed class PageTally
{
    /// <summary>Pages that one alone holds, and that may still be written.</summary>
    public int[] Open { get; } = new int[KernelShape.MaxClasses];

    /// <summary>Pages that one alone holds, and that never change again; the prefix index may name them too.</summary>
    public int[] Sealed { get; } = new int[KernelShape.MaxClasses];

    /// <summary>Pages that several hold: forks, sequences of one prefix, a snapshot that is being written.</summary>
    public int[] Shared { get; } = new int[KernelShape.MaxClasses];

    /// <summary>Pages that the prefix index alone holds.</summary>
    public int[] Cached { get; } = new int[KernelShape.MaxClasses];
}
