using ILGPU;
using ILGPU.Runtime;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Kernels of a device's own that a tier launches instead of the portable ones where they take a format pair, a width and a page size. They write the same bits, but for sums in another order.
/// </summary>
internal interface IMoveKernels
{
    /// <summary>What writes one part of pages from pages; null where the portable kernels do.</summary>
    IPartMove? Move(PartPair pair);

    /// <summary>What appends to open pages of two formats; null where the portable kernel does.</summary>
    IAppendKernel? Append(KvGeometry geometry, PageLayout open);

    /// <summary>What merges partial results, at the same places as the portable kernel; <paramref name="portable"/> is launched for the outputs that it does not take.</summary>
    MergeLauncher Merge(KvGeometry geometry, MergeLauncher portable);

    /// <summary>What brings scores up to date; null where the portable kernel does.</summary>
    ScoreLauncher? Score();
}

/// <summary>One part of the pages that are written from pages.</summary>
/// <param name="Source">Format of the source.</param>
/// <param name="Target">Format of the target.</param>
/// <param name="IsValue">True for values, false for keys.</param>
/// <param name="HasDigest">True if the target page gets a digest of its keys.</param>
/// <param name="From">Where the part lies in the source.</param>
/// <param name="To">Where it lies in the target.</param>
internal readonly record struct PartPair(PageFormat Source, PageFormat Target, bool IsValue, bool HasDigest, PartDims From, PartDims To);

/// <summary>A kernel for one part of a class pair.</summary>
internal interface IPartMove
{
    /// <summary>True if its launch also writes the mean square norms that <see cref="SquareKernel"/> else would.</summary>
    bool WritesSquares { get; }

    /// <summary>Enqueues a launch over a list of moves, those of other class pairs among them.</summary>
    void Enqueue(AcceleratorStream stream, ArrayView<int> arena, MoveList moves, DeviceSigns signs);
}

/// <summary>A list of moves on the device.</summary>
/// <param name="Words">The moves, <see cref="TranscodeKernels.MoveWords"/> each.</param>
/// <param name="Pair">Class pair of the moves meant.</param>
/// <param name="Count">Moves in the list.</param>
internal readonly record struct MoveList(ArrayView<int> Words, int Pair, int Count);

/// <summary>A kernel that appends to open pages.</summary>
internal interface IAppendKernel
{
    /// <summary>Enqueues the append of a batch's tokens; false where tensors of such addresses and strides are left to the portable kernel, and nothing is enqueued.</summary>
    bool TryEnqueue(AcceleratorStream stream, ArrayView<int> arena, ArrayView<int> batch, BatchPairs pairs, KernelDims dims);
}

/// <summary>The keys and values of one append.</summary>
/// <param name="Layer">The layer.</param>
/// <param name="Tokens">Tokens of the batch.</param>
/// <param name="Keys">The keys.</param>
/// <param name="Values">The values.</param>
internal readonly record struct BatchPairs(int Layer, int Tokens, BatchInput Keys, BatchInput Values);
