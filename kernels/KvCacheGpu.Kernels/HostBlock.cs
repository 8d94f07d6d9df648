using System.Runtime.InteropServices;

namespace KvCacheGpu.Kernels;

/// <summary>Host memory that pages leave a tier for and come back from: page-locked where the device reads it by itself. Made by <see cref="PageTransfers.Allocate"/>.</summary>
/// <remarks>Thread safety: any thread may read and write different places. It is disposed before its tier, and after <see cref="PageTransfers.WaitForLoads"/>.</remarks>
public abstract class HostBlock : IDisposable
{
    /// <summary>Words from a unit of <see cref="PageLayout.UnitBytes"/> on.</summary>
    /// <param name="unit">First unit.</param>
    /// <param name="units">Units.</param>
    public abstract Span<int> Words(int unit, int units);

    /// <inheritdoc/>
    public abstract void Dispose();
}

/// <summary>One page on its way between a slot and host memory, bit for bit.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Slot">Its slot.</param>
/// <param name="Block">Where it lies in the host.</param>
/// <param name="Unit">Its first unit there.</param>
/// <param name="Units">Its units of <see cref="PageLayout.UnitBytes"/>.</param>
public readonly record struct PageTransfer(int Slot, HostBlock Block, int Unit, int Units);

/// <summary>A page whose keys are to be sketched.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Slot">Its slot.</param>
/// <param name="PageClass">Its page class.</param>
/// <param name="KeyRow">The row whose key scales its keys have: <see cref="KernelTier.KeyRow"/>.</param>
/// <param name="Block">Where its <see cref="KeySketch"/> goes.</param>
/// <param name="Unit">The sketch's first unit there.</param>
public readonly record struct PageSketch(int Slot, int PageClass, int KeyRow, HostBlock Block, int Unit);

/// <summary>Memory of the process, as any other.</summary>
internal sealed unsafe class PlainHostBlock(int units) : HostBlock
{
    private int* _words = (int*)NativeMemory.AlignedAlloc((nuint)units * PageLayout.UnitBytes, PageLayout.UnitBytes);

    ~PlainHostBlock() => Free();

    public override Span<int> Words(int unit, int units)
    {
        ObjectDisposedException.ThrowIf(_words == null, this);
        return new Span<int>(_words + ((long)unit * PageLayout.UnitWords), units * PageLayout.UnitWords);
    }

    public override void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    private void Free()
    {
        NativeMemory.AlignedFree(_words);
        _words = null;
    }
}
