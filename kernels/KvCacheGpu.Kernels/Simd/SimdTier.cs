using System.Numerics;

namespace KvCacheGpu.Kernels;

/// <summary>The tier for machines without a GPU: the same pages in host memory, read by vector instructions on all cores.</summary>
/// <remarks>Thread safety: as of every <see cref="KernelTier"/>; its workers serve one loop at a time.</remarks>
public sealed unsafe class SimdTier : KernelTier
{
    private readonly NativeBlock _arena;
    private readonly NativeBlock _constants;
    private readonly NativeBlock _transcode;
    private readonly Lock _transcoding = new();
    private readonly SimdTranscodeWork _moves;
    private readonly long _transcodeFloats;

    /// <summary>Allocates the arena.</summary>
    /// <param name="shape">Geometry, formats and table sizes.</param>
    /// <param name="arenaBytes">Bytes of tables and page slots.</param>
    /// <param name="level">Vectors to compute with. The default value is the widest that the processor accelerates.</param>
    /// <param name="threads">Threads to use; 0, the default, takes all cores.</param>
    /// <param name="observer">Told of every allocation, or null.</param>
    public SimdTier(KernelShape shape, long arenaBytes, SimdLevel level = SimdLevel.Auto, int threads = 0, AllocationObserver? observer = null)
        : base(shape, arenaBytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(threads);
        (Level, Observer) = (level.Resolve(), observer);
        Pool = threads == 0 ? WorkerPool.Shared : WorkerPool.Of(threads);
        _arena = new NativeBlock(arenaBytes, AllocationKind.Arena, observer);
        (int keyWidth, int valueWidth) = (shape.Geometry.KeyWidth, shape.Geometry.ValueWidth);
        int keyFloats = VectorPlan.FloatsFor(keyWidth);
        _constants = new NativeBlock((keyFloats + VectorPlan.FloatsFor(valueWidth)) * sizeof(float), AllocationKind.Bookkeeping, observer);
        KeyPlan = new VectorPlan(keyWidth, shape.RotationSeed, (float*)_constants.Pointer);
        ValuePlan = new VectorPlan(valueWidth, shape.RotationSeed, (float*)_constants.Pointer + keyFloats);
        if (shape.ScalesKeys)
        {
            KeyScales = new KeyScaleTables(shape, KeyPlan, observer);
            QuerySums = new QuerySums(shape.Geometry, observer);
        }

        RotatesValues = shape.Classes.Any(c => c.ValueFormat.IsRotated());
        _moves = SimdKernels.CreateTranscode(this);
        _transcodeFloats = TranscodeFloats(shape);
        _transcode = new NativeBlock(_transcodeFloats * Pool.Workers * sizeof(float), AllocationKind.Scratch, observer);
    }

    /// <summary>The vectors in use.</summary>
    public SimdLevel Level { get; }

    /// <inheritdoc/>
    public override string Name => Level switch
    {
        SimdLevel.Vector512 => "simd-512",
        SimdLevel.Vector256 => "simd-256",
        _ => "simd-scalar",
    };

    /// <inheritdoc/>
    public override int* Tables => (int*)_arena.Pointer;

    internal AllocationObserver? Observer { get; }

    internal WorkerPool Pool { get; }

    internal VectorPlan KeyPlan { get; }

    internal VectorPlan ValuePlan { get; }

    /// <summary>The tables of key scales; null where no class has keys in a T format.</summary>
    internal KeyScaleTables? KeyScales { get; }

    /// <summary>The sums of queries; null where no class has keys in a T format.</summary>
    internal QuerySums? QuerySums { get; }

    internal bool RotatesValues { get; }

    /// <summary>
    /// Threads whose scratch takes no more than so many bytes: all cores where it does, else a power of two, so that a process has few pools; at least 1.
    /// </summary>
    /// <param name="shape">Geometry, formats and table sizes.</param>
    /// <param name="maxTokens">Tokens of a batch at most.</param>
    /// <param name="scratchBytes">Bytes of all threads' scratch together.</param>
    public static int ThreadsWithin(KernelShape shape, int maxTokens, long scratchBytes)
    {
        long threads = scratchBytes / ((SimdBatch.WordsPerThread(shape, maxTokens) + TranscodeFloats(shape)) * sizeof(float));
        return threads >= Environment.ProcessorCount ? Environment.ProcessorCount : 1 << BitOperations.Log2((uint)Math.Max(threads, 1));
    }

    /// <inheritdoc/>
    public override long LeafHostBytes => 0;

    /// <inheritdoc/>
    public override void WriteCount(int sequence, int row, int count) => Tables[Map.CountWord(sequence, row)] = count;

    /// <inheritdoc/>
    public override int* OpenLeaf(int sequence, int leaf, int slot)
    {
        ThrowIfNotOpenable(sequence, leaf, slot);
        Tables[Map.DirectoryWord(sequence, leaf)] = slot;
        return Page(slot);
    }

    /// <inheritdoc/>
    public override void CloseLeaf(int sequence, int leaf)
    {
        _ = LeafSlot(sequence, leaf);
        Tables[Map.DirectoryWord(sequence, leaf)] = 0;
    }

    /// <inheritdoc/>
    public override void WriteEntry(int sequence, int row, int entry, int slot, int tag)
    {
        int* at = Page(LeafSlot(sequence, Map.LeafOf(entry))) + Map.SlotInLeaf(row, entry);
        (at[0], at[Map.LeafTags]) = (slot, tag);
    }

    /// <inheritdoc/>
    public override KernelBatch CreateBatch(int maxSequences, int maxTokens) => new SimdBatch(this, maxSequences, maxTokens);

    /// <inheritdoc/>
    public override void Transcode(ReadOnlySpan<PageMove> moves, Span<bool> kept = default)
    {
        lock (_transcoding)
        {
            fixed (PageMove* m = moves)
            fixed (bool* k = kept)
            {
                _moves.Run(Pool, m, moves.Length, k);
            }
        }
    }

    /// <inheritdoc/>
    public override void Materialize(ReadOnlySpan<PageRead> reads, KvOutput keys, KvOutput values)
    {
        KvGeometry g = Shape.Geometry;
        SimdBatch.ThrowIfOnDevice(keys.IsOnDevice || values.IsOnDevice);
        ThrowIfNoRoom(reads, keys.Length, g.KeyWidth, nameof(keys));
        ThrowIfNoRoom(reads, values.Length, g.ValueWidth, nameof(values));
        lock (_transcoding)
        {
            fixed (byte* k = keys.Host, v = values.Host)
            {
                (HostOutput keysTo, HostOutput valuesTo) = (new(k, keys.Type), new(v, values.Type));
                foreach (PageRead read in reads)
                {
                    PageLayout layout = Shape.Classes[read.PageClass];
                    if (keysTo.IsThere)
                    {
                        _moves.Decode(PagePart.Keys(layout, Page(read.Slot), g.KeyWidth), KeyPlan, read, keysTo);
                    }

                    if (valuesTo.IsThere)
                    {
                        _moves.Decode(PagePart.Values(layout, Page(read.Slot), g.ValueWidth), ValuePlan, read, valuesTo);
                    }
                }
            }
        }
    }

    /// <inheritdoc/>
    public override void ClearScores(int sequence)
    {
        for (int leaf = 0; leaf < Map.Leaves; leaf++)
        {
            int slot = Tables[Map.DirectoryWord(sequence, leaf)];
            if (slot != 0)
            {
                new Span<int>(Page(slot) + Map.LeafScores, Map.LeafScoreWords).Clear();
            }
        }
    }

    /// <inheritdoc/>
    public override void Read(long word, Span<int> target) => Words(word, target.Length).CopyTo(target);

    /// <inheritdoc/>
    public override void Load(long word, ReadOnlySpan<int> source) => source.CopyTo(Words(word, source.Length));

    /// <inheritdoc/>
    public override void SetKeyScales(int table, KvKeyScales scales)
    {
        ThrowIfNotMine(table, scales);
        lock (_transcoding)
        {
            KeyScales?.Set(table, scales);
        }
    }

    /// <inheritdoc/>
    public override bool SumsQueries
    {
        get => QuerySums is { IsOn: true };
        set
        {
            if (QuerySums is not null)
            {
                QuerySums.IsOn = value;
            }
            else if (value)
            {
                ThrowIfNoSums(0);
            }
        }
    }

    /// <inheritdoc/>
    public override void ReadQuerySums(Span<float> squares)
    {
        ThrowIfNoSums(squares.Length);
        QuerySums!.Read(squares);
    }

    /// <inheritdoc/>
    public override void Synchronize()
    {
        // Every launch has ended when it returns.
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        _transcode.Dispose();
        QuerySums?.Dispose();
        KeyScales?.Dispose();
        _constants.Dispose();
        _arena.Dispose();
    }

    internal int* Page(int slot) => Tables + ((long)slot * PageLayout.UnitWords);

    internal float* TranscodeScratch(int worker) => (float*)_transcode.Pointer + (worker * _transcodeFloats);

    private static long TranscodeFloats(KernelShape shape) => (EncodeScratch.FloatsFor(shape) + 15) & ~15L;

    private Span<int> Words(long word, int count)
    {
        if (word < 0 || (word + count) * sizeof(int) > ArenaBytes)
        {
            throw new ArgumentOutOfRangeException(nameof(word), word, $"expected {count} words inside an arena of {ArenaBytes} bytes");
        }

        return new Span<int>(Tables + word, count);
    }
}
