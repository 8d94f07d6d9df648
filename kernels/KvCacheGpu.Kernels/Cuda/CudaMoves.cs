using System.Diagnostics.CodeAnalysis;
using System.Reflection;
using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;

namespace KvCacheGpu.Kernels;

internal delegate void PartMoveLauncher(
    AcceleratorStream stream, KernelConfig config, ArrayView<int> arena, ArrayView<Words4> arena128, ArrayView<int> moves, ArrayView<Four> signs, MoveDims dims);

internal delegate void WideScoreLauncher(
    AcceleratorStream stream, KernelConfig config, WordViews arena, ArrayView<int> batch, float decay, int step, KernelDims dims);

internal delegate void WideMergeLauncher(
    AcceleratorStream stream,
    KernelConfig config,
    ArrayView<int> arena,
    ArrayView<int> batch,
    ArrayView<Four> partials,
    ArrayView<float> partialStats,
    ArrayView<Words4> output,
    ArrayView<float> logSumExp,
    ArrayView<float> signs,
    MergeDims merge,
    KernelDims dims);

internal delegate void WideAppendLauncher(
    AcceleratorStream stream,
    KernelConfig config,
    ArrayView<int> arena,
    ArrayView<Words4> arena128,
    ArrayView<int> batch,
    ArrayView<Words4> keys,
    ArrayView<Words4> values,
    int tokens,
    AppendDims call,
    KernelDims dims);

/// <summary>
/// The kernels of CUDA devices from sm_80 on that append, seal, transcode, merge and score. Those that seal and transcode take page sizes that are multiples of 4 and
/// widths of 64 to 256 that are multiples of 16; and keys whose page fits into 48 KB of shared memory as binary32.
/// </summary>
/// <remarks>
/// <code>
///   from        keys to                            values to
///   F16, BF16   I8, T4, T3, T2, FP8; digest alone  I8, V4, V3, V2, FP8
///   I8          T4, T3, T2; digest alone           V4, V3, V2
/// </code>
/// The portable kernels do the rest: F32 pages, ggml's formats, steps within T and V formats, reopened pages, copies.
/// </remarks>
[UnconditionalSuppressMessage("Trimming", "IL2060", Justification = PortableKernels.ForDevices)]
[UnconditionalSuppressMessage("Trimming", "IL2076", Justification = PortableKernels.ForDevices)]
[UnconditionalSuppressMessage("AOT", "IL3050", Justification = PortableKernels.ForDevices)]
internal sealed class CudaMoves(CudaAccelerator accelerator) : IMoveKernels
{
    private const int MaxThreads = 256;
    private const int SharedBytes = 48 << 10;

    private static readonly (PageFormat Format, Type Codec)[] _sources =
        [(PageFormat.F16, typeof(F16Source)), (PageFormat.BF16, typeof(BF16Source)), (PageFormat.I8, typeof(I8Source))];

    private static readonly (PageFormat Format, Type Codec)[] _targets =
    [
        (PageFormat.I8, typeof(I8Target)), (PageFormat.FP8, typeof(Fp8Target)), (PageFormat.V4, typeof(V4Target)),
        (PageFormat.T4, typeof(LevelTarget<FourBitLevels, ByGain>)), (PageFormat.T3, typeof(LevelTarget<ThreeBitLevels, ByGain>)),
        (PageFormat.T2, typeof(LevelTarget<TwoBitLevels, ByGain>)), (PageFormat.V3, typeof(LevelTarget<ThreeBitLevels, ByVector>)),
        (PageFormat.V2, typeof(LevelTarget<TwoBitLevels, ByVector>)),
    ];

    /// <summary>The kernels of a device; null where it is not one that they are for.</summary>
    public static CudaMoves? For(Accelerator accelerator) =>
        accelerator is CudaAccelerator { Architecture: { } architecture } cuda && architecture >= CudaArchitecture.SM_80 ? new CudaMoves(cuda) : null;

    /// <summary>Every kernel that a device can be asked for.</summary>
    public static IEnumerable<(string Name, MethodInfo Method)> All()
    {
        foreach (PageFormat open in (PageFormat[])[PageFormat.F32, PageFormat.F16, PageFormat.BF16])
        {
            yield return ($"append-wide-{open}-{open}", Append(open, open));
        }

        yield return ("merge-wide", WideMergeKernel);
        yield return ("score-wide", WideScoreKernel);
        foreach ((PageFormat source, _) in _sources)
        {
            yield return ($"digest-warp-{source}", Digest(source)!);
            foreach ((PageFormat target, _) in _targets)
            {
                if (Keys(source, target) is { } keys)
                {
                    yield return ($"keys-warp-{source}-{target}", keys);
                }

                if (Values(source, target) is { } values)
                {
                    yield return ($"transcode-warp-{source}-{target}", values);
                }
            }
        }
    }

    /// <inheritdoc/>
    public IPartMove? Move(PartPair pair)
    {
        int width = pair.From.Width;
        if (width % 16 != 0 || width is < 64 or > 256 || pair.From.PageTokens % 4 != 0)
        {
            return null;
        }

        var dims = new MoveDims(0, Lanes(width), pair.From, pair.To, 0f, 0);
        MethodInfo? method = pair switch
        {
            { IsValue: true } => Values(pair.Source, pair.Target),
            { HasDigest: false } => null,
            _ when dims.SharedFloats * sizeof(float) > SharedBytes => null,
            _ when pair.Source == pair.Target => Digest(pair.Source),
            _ => Keys(pair.Source, pair.Target),
        };
        return method is null ? null : new PartMove(accelerator.LoadKernel<PartMoveLauncher>(method), pair);
    }

    /// <inheritdoc/>
    public IAppendKernel? Append(KvGeometry geometry, PageLayout open) => geometry.KeyWidth % 8 == 0 && geometry.ValueWidth % 8 == 0
        ? new AppendMove(accelerator.LoadKernel<WideAppendLauncher>(Append(open.KeyFormat, open.ValueFormat)), geometry.KvHeads)
        : null;

    /// <inheritdoc/>
    public MergeLauncher Merge(KvGeometry geometry, MergeLauncher portable)
    {
        int width = geometry.ValueWidth;
        if (width % 8 != 0 || width > WideMerge.MostWidth)
        {
            return portable;
        }

        WideMergeLauncher launcher = accelerator.LoadKernel<WideMergeLauncher>(WideMergeKernel);
        return (stream, config, arena, batch, partials, partialStats, output, logSumExp, signs, merge, dims) =>
        {
            int shared = WideMerge.SharedFloats(width, merge.Launches * merge.Segments);
            if (AddressOf(output) % 16 != 0)
            {
                portable(stream, config, arena, batch, partials, partialStats, output, logSumExp, signs, merge, dims);
                return;
            }

            var own = new KernelConfig(config.GridDim.X, WideMerge.Threads, SharedMemoryConfig.RequestDynamic<float>(shared));
            launcher(stream, own, arena, batch, partials.Cast<Four>(), partialStats, output.Cast<Words4>(), logSumExp, signs, merge, dims);
        };
    }

    /// <inheritdoc/>
    public ScoreLauncher? Score()
    {
        WideScoreLauncher launcher = accelerator.LoadKernel<WideScoreLauncher>(WideScoreKernel);
        return (stream, config, arena, batch, decay, step, dims) => launcher(
            stream,
            new KernelConfig(config.GridDim.X, WideScore.Threads, SharedMemoryConfig.RequestDynamic<int>(WideScore.SharedInts)),
            new WordViews(arena, arena.Cast<Words2>(), arena.Cast<Words4>()),
            batch,
            decay,
            step,
            dims);
    }

    private static MethodInfo WideMergeKernel => typeof(WideMerge).GetMethod(nameof(WideMerge.Merge))!;

    private static MethodInfo WideScoreKernel => typeof(WideScore).GetMethod(nameof(WideScore.Score))!;

    // Both are members of interfaces alone; a constrained call boxes nothing.
    private static long AddressOf<TView>(TView view)
        where TView : struct, IContiguousArrayView => view.Buffer.NativePtr + view.IndexInBytes;

    private static MethodInfo Append(PageFormat key, PageFormat value) => typeof(WideAppend)
        .GetMethod(nameof(WideAppend.Append), BindingFlags.Static | BindingFlags.Public)!.MakeGenericMethod(PortableKernels.Codec(key), PortableKernels.Codec(value));

    private static int Lanes(int width) => width > 128 ? 16 : width > 64 ? 8 : 4;

    private static MethodInfo? Keys(PageFormat source, PageFormat target) =>
        PageMoves.IsEncodedByPage(source, target) ? Of(nameof(MoveKernels.Keys), Codec(_sources, source), Codec(_targets, target)) : null;

    private static MethodInfo? Values(PageFormat source, PageFormat target) =>
        target.IsForValues() && PageMoves.IsTranscoded(source, target) ? Of(nameof(MoveKernels.Values), Codec(_sources, source), Codec(_targets, target)) : null;

    private static MethodInfo? Digest(PageFormat format) => Of(nameof(MoveKernels.Keys), Codec(_sources, format), typeof(NoTarget));

    private static Type? Codec((PageFormat Format, Type Codec)[] codecs, PageFormat format) => Array.Find(codecs, c => c.Format == format).Codec;

    private static MethodInfo? Of(string name, Type? source, Type? target) =>
        source is null || target is null ? null : typeof(MoveKernels).GetMethod(name, BindingFlags.Static | BindingFlags.Public)!.MakeGenericMethod(source, target);

    private sealed class PartMove(PartMoveLauncher launcher, PartPair part) : IPartMove
    {
        private readonly int _lanes = Lanes(part.From.Width);

        public bool WritesSquares => Groups == 1;

        // Threads that the page's elements take, in whole warps, and the groups that these are divided into.
        private int Threads => Math.Clamp(((part.From.PageTokens / 4 * _lanes) + 31) & ~31, 32, MaxThreads);

        private int Groups => part.IsValue ? ((part.From.PageTokens / 4 * _lanes) + Threads - 1) / Threads : 1;

        public void Enqueue(AcceleratorStream stream, ArrayView<int> arena, MoveList moves, DeviceSigns signs)
        {
            int square = !WritesSquares ? -1 : part.IsValue ? TableMap.ScoreValueSquare : TableMap.ScoreKeySquare;
            var dims = new MoveDims(moves.Pair, _lanes, part.From, part.To, signs.Norm, square);
            var shared = SharedMemoryConfig.RequestDynamic<float>(part.IsValue ? PageSquare.SharedFloats : dims.SharedFloats);
            launcher(stream, new KernelConfig(moves.Count * Groups, Threads, shared), arena, arena.Cast<Words4>(), moves.Words, signs.View.Cast<Four>(), dims);
        }
    }

    private sealed class AppendMove(WideAppendLauncher launcher, int heads) : IAppendKernel
    {
        public bool TryEnqueue(AcceleratorStream stream, ArrayView<int> arena, ArrayView<int> batch, BatchPairs pairs, KernelDims dims)
        {
            if (!IsAligned(pairs.Keys) || !IsAligned(pairs.Values))
            {
                return false;
            }

            var config = new KernelConfig(
                (pairs.Tokens + WideAppend.Tokens - 1) / WideAppend.Tokens * heads, WideAppend.Threads, SharedMemoryConfig.RequestDynamic<int>(WideAppend.SharedInts));
            launcher(
                stream,
                config,
                arena,
                arena.Cast<Words4>(),
                batch,
                pairs.Keys.View.Cast<Words4>(),
                pairs.Values.View.Cast<Words4>(),
                pairs.Tokens,
                new AppendDims(pairs.Layer, pairs.Keys.Dims, pairs.Values.Dims),
                dims);
            return true;
        }

        // Every vector begins at a multiple of 16 bytes.
        private static bool IsAligned(BatchInput input)
        {
            int elements = input.Dims.Type == (int)TensorType.F32 ? 4 : 8;
            return AddressOf(input.View) % 16 == 0 && input.Dims.TokenStride % elements == 0 && input.Dims.HeadStride % elements == 0;
        }
    }
}
