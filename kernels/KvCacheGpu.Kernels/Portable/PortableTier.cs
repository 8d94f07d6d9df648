using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;

namespace KvCacheGpu.Kernels;

/// <summary>
/// The tier of ILGPU kernels: CUDA, OpenCL, and ILGPU's CPU emulator (a correctness oracle, not a fallback). Shared memory and barriers only.
/// </summary>
/// <remarks>
/// All work is in one order, also where batches run on streams of their own (<c>StreamOrder</c>), so that a freed slot is never written before the last launch
/// that reads it has ended. Work outside of batches goes to the accelerator's default stream. Device tensors passed in must stay unchanged until what was
/// enqueued has read them. Device memory beside the arena (table patches,
/// lists of moves, signs and key scales, sums of queries) is told to the observer as <see cref="AllocationKind.Scratch"/>, the host's table copy as
/// <see cref="AllocationKind.Bookkeeping"/>.
/// Thread safety: as of every <see cref="KernelTier"/>; what several threads enqueue runs in one order.
/// </remarks>
public sealed unsafe class PortableTier : KernelTier
{
    private const long GpuPartialFloats = 1 << 23;
    private const long CpuPartialFloats = 1 << 18;

    private readonly MemoryBuffer1D<int, Stride1D.Dense> _arena;
    private readonly TablePatches _patches;
    private readonly PageTranscoder _transcoder;
    private readonly DeviceSigns _keySigns;
    private readonly DeviceSigns _valueSigns;
    private bool _disposed;

    /// <summary>Reserves the arena on an accelerator and compiles the kernels of the shape's formats for it.</summary>
    /// <param name="accelerator">The device. Borrowed: the caller disposes it after the tier.</param>
    /// <param name="shape">Geometry, formats and table sizes.</param>
    /// <param name="arenaBytes">Bytes of tables and page slots.</param>
    /// <param name="groupSize">Threads of a group; 0 chooses: 1 on the CPU emulator, else a page's tokens in whole warps, 128 at most.</param>
    /// <param name="observer">Told of every allocation and release, or null.</param>
    /// <exception cref="ArgumentOutOfRangeException">The device does not run groups of that size, or the arena does not hold the tables.</exception>
    public PortableTier(Accelerator accelerator, KernelShape shape, long arenaBytes, int groupSize = 0, AllocationObserver? observer = null)
        : this(accelerator, shape, arenaBytes, groupSize, observer, tensors: null, moves: null)
    {
    }

    /// <summary>The same with kernels that the device has of its own: they take the formats that they can.</summary>
    internal PortableTier(
        Accelerator accelerator, KernelShape shape, long arenaBytes, int groupSize, AllocationObserver? observer, ITensorForms? tensors, IMoveKernels? moves)
        : base(shape, arenaBytes)
    {
        ArgumentNullException.ThrowIfNull(accelerator);
        ArgumentOutOfRangeException.ThrowIfNegative(groupSize);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(groupSize, accelerator.MaxNumThreadsPerGroup);
        GroupSize = groupSize == 0 ? DeviceLink.GroupFor(accelerator, shape.Geometry.PageTokens) : groupSize;
        KvGeometry g = shape.Geometry;
        long shared = sizeof(float) * (long)shape.Classes.Max(
            c => AttendKernel.SharedFloats(4, g, new PageDims(g, c), GroupSize));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(shared, accelerator.MaxSharedMemoryPerGroup, nameof(groupSize));
        PartialFloats = accelerator.AcceleratorType == AcceleratorType.CPU ? CpuPartialFloats : GpuPartialFloats;
        Link = new DeviceLink(accelerator, observer);
        using DeviceBinding bound = Link.Bind();
        var made = new Stack<IDisposable>();
        try
        {
            _arena = Link.Allocate<int>(AllocationKind.Arena, arenaBytes / sizeof(int));
            _arena.View.AsContiguous().SubView(0, Map.Bytes / sizeof(int)).MemSetToZero(Link.Stream);
            made.Push(_patches = new TablePatches(Link, Map, GroupSize, observer));
            made.Push(_keySigns = new DeviceSigns(Link, shape.Geometry.KeyWidth, shape.RotationSeed, shape.ScalesKeys ? KeyTables * g.Layers * g.KvHeads : 0));
            made.Push(_valueSigns = new DeviceSigns(Link, shape.Geometry.ValueWidth, shape.RotationSeed));
            made.Push(_transcoder = new PageTranscoder(Link, shape, _keySigns, _valueSigns, GroupSize, moves));
            if (shape.ScalesKeys)
            {
                made.Push(QuerySums = new DeviceQuerySums(Link, g, GroupSize));
            }

            Launchers = new BatchLaunchers(accelerator, shape, tensors, moves);
            Views = new DeviceViews(accelerator);
            Splits = shape.MeasuresKernels && Link.Clock is { } clock ? new SplitChoice(clock) : null;
            Transfers = DeviceTransfers.Of(this);
            Link.Synchronize();
        }
        catch
        {
            // A borrowed accelerator would keep it.
            while (made.TryPop(out IDisposable? part))
            {
                part.Dispose();
            }

            if (_arena is not null)
            {
                Link.Release(AllocationKind.Arena, _arena);
            }

            Link.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public override string Name => Link.Accelerator.AcceleratorType switch
    {
        AcceleratorType.CPU => "portable (ilgpu-cpu)",
        AcceleratorType.Cuda => Launchers.HasTensorForms ? "cuda (tensor cores)" : "portable (cuda)",
        _ => "portable (opencl)",
    };

    /// <inheritdoc/>
    public override Accelerator Accelerator => Link.Accelerator;

    /// <inheritdoc/>
    public override bool HasGraphs => Link.Accelerator is CudaAccelerator;

    /// <inheritdoc/>
    public override int* Tables => _patches.Tables;

    /// <inheritdoc/>
    public override PageTransfers Transfers { get; }

    /// <summary>The pairs of formats that the portable kernels attend, each with the reason: "F32/F32: F32 keys".</summary>
    public IReadOnlyList<string> PortablePairs => Launchers.PortablePairs;

    /// <summary>Tokens of a segment, the least work that attention gives a group or a warp: smaller ones split more, larger ones merge less.</summary>
    internal int SegmentTokens { get; set; } = 256;

    /// <summary>What chooses other segments by measurement; null where nothing does.</summary>
    internal SplitChoice? Splits { get; set; }

    /// <summary>Floats of partial results that a batch keeps; a batch that makes more is worked off in waves.</summary>
    internal long PartialFloats { get; set; }

    /// <summary>Disposed after the tier: the accelerator and context of a tier that owns them.</summary>
    internal IDisposable? Owned { get; set; }

    internal int GroupSize { get; }

    internal DeviceLink Link { get; }

    internal BatchLaunchers Launchers { get; }

    internal PageTranscoder Transcoder => _transcoder;

    internal DeviceSigns KeySigns => _keySigns;

    /// <summary>The sums of queries; null where no class has keys in a T format.</summary>
    internal DeviceQuerySums? QuerySums { get; }

    internal DeviceSigns ValueSigns => _valueSigns;

    internal ArrayView<int> Arena => _arena.View.AsContiguous();

    /// <summary>Where the tensors and outputs that hosts keep on the device lie.</summary>
    internal DeviceViews Views { get; }

    /// <summary>Held while work is enqueued: streams take one thread at a time.</summary>
    internal Lock Gate { get; } = new();

    /// <inheritdoc/>
    public override long LeafHostBytes => _patches.LeafHostBytes;

    /// <inheritdoc/>
    public override void WriteCount(int sequence, int row, int count)
    {
        lock (Gate)
        {
            _patches.WriteRoot(Map.CountWord(sequence, row), count, Arena);
        }
    }

    /// <inheritdoc/>
    public override int* OpenLeaf(int sequence, int leaf, int slot)
    {
        lock (Gate)
        {
            ThrowIfNotOpenable(sequence, leaf, slot);
            return _patches.Open(Map.DirectoryWord(sequence, leaf), slot, Arena);
        }
    }

    /// <inheritdoc/>
    public override void CloseLeaf(int sequence, int leaf)
    {
        lock (Gate)
        {
            _ = LeafSlot(sequence, leaf);
            _patches.Close(Map.DirectoryWord(sequence, leaf), Arena);
        }
    }

    /// <inheritdoc/>
    public override void WriteEntry(int sequence, int row, int entry, int slot, int tag)
    {
        int leaf = Map.LeafOf(entry);
        int word = Map.SlotInLeaf(row, entry);
        lock (Gate)
        {
            _ = LeafSlot(sequence, leaf);
            _patches.WriteLeaf(Map.DirectoryWord(sequence, leaf), word, slot, Arena);
            _patches.WriteLeaf(Map.DirectoryWord(sequence, leaf), word + Map.LeafTags, tag, Arena);
        }
    }

    /// <inheritdoc/>
    public override KernelBatch CreateBatch(int maxSequences, int maxTokens)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(maxSequences, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(maxTokens, 1);
        ObjectDisposedException.ThrowIf(_disposed, this);
        lock (Gate)
        {
            using DeviceBinding bound = Link.Bind();
            return new PortableBatch(this, maxSequences, maxTokens);
        }
    }

    /// <inheritdoc/>
    public override void Transcode(ReadOnlySpan<PageMove> moves, Span<bool> kept = default)
    {
        if (kept.Length > 0 && kept.Length < moves.Length)
        {
            throw new ArgumentException($"expected room for {moves.Length} moves or none, got {kept.Length}", nameof(kept));
        }

        lock (Gate)
        {
            using DeviceBinding bound = Enter();
            _transcoder.Transcode(Arena, moves, kept);
        }
    }

    /// <inheritdoc/>
    public override void Materialize(ReadOnlySpan<PageRead> reads, KvOutput keys, KvOutput values)
    {
        lock (Gate)
        {
            using DeviceBinding bound = Enter();
            Decode(reads, keys, values);
        }
    }

    /// <inheritdoc/>
    public override void ClearScores(int sequence)
    {
        lock (Gate)
        {
            using DeviceBinding bound = Enter();
            for (int leaf = 0; leaf < Map.Leaves && Map.LeafScoreWords > 0; leaf++)
            {
                if (Tables[Map.DirectoryWord(sequence, leaf)] != 0)
                {
                    Arena.SubView(LeafWord(sequence, leaf) + Map.LeafScores, Map.LeafScoreWords).MemSetToZero(Link.Stream);
                }
            }
        }
    }

    /// <inheritdoc/>
    public override void Read(long word, Span<int> target)
    {
        lock (Gate)
        {
            using DeviceBinding bound = Enter();
            _transcoder.Copy(Arena, word, target);
        }
    }

    /// <inheritdoc/>
    public override void Load(long word, ReadOnlySpan<int> source)
    {
        lock (Gate)
        {
            using DeviceBinding bound = Enter();
            _transcoder.Load(Arena, word, source);
        }
    }

    /// <inheritdoc/>
    public override void SetKeyScales(int table, KvKeyScales scales)
    {
        ThrowIfNotMine(table, scales);
        lock (Gate)
        {
            if (Shape.ScalesKeys)
            {
                using DeviceBinding bound = Enter();
                _keySigns.Set(table, scales, (at, vectors) => _transcoder.Load(_keySigns.View.Cast<int>(), at, MemoryMarshal.Cast<float, int>(vectors)));
            }
        }
    }

    /// <inheritdoc/>
    public override bool SumsQueries
    {
        get => QuerySums is { IsOn: true };
        set
        {
            lock (Gate)
            {
                if (QuerySums is not null)
                {
                    using DeviceBinding bound = Enter();
                    QuerySums.Set(value);
                }
                else if (value)
                {
                    ThrowIfNoSums(0);
                }
            }
        }
    }

    /// <inheritdoc/>
    public override void ReadQuerySums(Span<float> squares)
    {
        ThrowIfNoSums(squares.Length);
        lock (Gate)
        {
            using DeviceBinding bound = Enter();
            _transcoder.Copy(QuerySums!.View.Cast<int>(), 0, MemoryMarshal.Cast<float, int>(squares));
        }

        foreach (ref float square in squares)
        {
            square = MathF.Min(square, float.MaxValue);
        }
    }

    /// <inheritdoc/>
    public override void Synchronize() => Link.Synchronize();

    /// <inheritdoc/>
    public override void Dispose()
    {
        lock (Gate)
        {
            if (_disposed)
            {
                return;
            }

            _disposed = true;
            Link.Finish();
            (Transfers as IDisposable)?.Dispose();
            _transcoder.Dispose();
            QuerySums?.Dispose();
            _keySigns.Dispose();
            _valueSigns.Dispose();
            _patches.Dispose();
            Views.Dispose();
            Link.Release(AllocationKind.Arena, _arena);
            Link.Dispose();
        }

        Owned?.Dispose();
    }

    /// <inheritdoc/>
    public override void ThrowIfNotMine(KvStream stream) => Link.Order.ThrowIfCaptured(StreamFor(stream));

    /// <summary>ILGPU's object for a stream that batches run on.</summary>
    /// <inheritdoc cref="ThrowIfNotMine" path="/exception"/>
    internal AcceleratorStream StreamFor(KvStream stream)
    {
        using DeviceBinding bound = Link.Bind();
        AcceleratorStream found = Link.Order.Resolve(stream);
        return found is CudaStream { StreamPtr: StreamOrder.PerThread }
            ? throw new ArgumentException("expected a stream that is the same on every thread, got CUDA's per-thread default stream", nameof(stream))
            : found;
    }

    /// <summary>
    /// Every launch calls this first, under <see cref="Gate"/>: it makes the device current on this thread until the result is disposed, goes on on a
    /// stream, and brings the device's tables up to date.
    /// </summary>
    /// <param name="stream">The stream; null for the accelerator's default stream.</param>
    internal DeviceBinding Enter(AcceleratorStream? stream = null)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        DeviceBinding bound = Link.Bind();
        try
        {
            Link.Order.Use(stream ?? Link.Accelerator.DefaultStream);
            _patches.Flush(Arena);
            return bound;
        }
        catch
        {
            bound.Dispose();
            throw;
        }
    }

    /// <summary>Enqueues <see cref="Materialize"/>; under <see cref="Gate"/>, after <see cref="Enter"/>.</summary>
    internal void Decode(ReadOnlySpan<PageRead> reads, KvOutput keys, KvOutput values)
    {
        ThrowIfNoRoom(reads, keys.Length, Shape.Geometry.KeyWidth, nameof(keys));
        ThrowIfNoRoom(reads, values.Length, Shape.Geometry.ValueWidth, nameof(values));
        ArrayView<ushort> keysFound = keys.IsOnDevice && keys.Length > 0 ? Views.Of(keys, nameof(keys)) : default;
        ArrayView<ushort> valuesFound = values.IsOnDevice && values.Length > 0 ? Views.Of(values, nameof(values)) : default;
        _transcoder.Materialize(Arena, reads, keys, keysFound, isValue: false);
        _transcoder.Materialize(Arena, reads, values, valuesFound, isValue: true);
    }
}
