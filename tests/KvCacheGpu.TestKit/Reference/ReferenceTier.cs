using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>
/// The contract of a kernel tier in plain scalar C#: a fake device for tests of the engine, and the first tier that must pass the
/// conformance suite.
/// </summary>
public sealed unsafe class ReferenceTier : KernelTier
{
    private readonly AllocationObserver? _observer;
    private readonly PartPlace[] _keys;
    private readonly PartPlace[] _values;
    private readonly KvKeyScales[] _scales;
    private readonly double[] _sums;
    private bool _sumsQueries;
    private int* _arena;

    /// <summary>Makes a tier, and allocates its arena.</summary>
    public ReferenceTier(KernelShape shape, long arenaBytes, AllocationObserver? observer = null)
        : base(shape, arenaBytes)
    {
        _observer = observer;
        _arena = (int*)NativeMemory.AlignedAlloc((nuint)arenaBytes, PageLayout.UnitBytes);
        NativeMemory.Clear(_arena, (nuint)arenaBytes);
        Observe(AllocationKind.Arena, arenaBytes);
        _keys = [.. shape.Classes.Select(layout => new PartPlace(layout, shape.Geometry, isValue: false))];
        _values = [.. shape.Classes.Select(layout => new PartPlace(layout, shape.Geometry, isValue: true))];
        _scales = [.. Enumerable.Repeat(KvKeyScales.None(shape.Geometry), KeyTables)];
        _sums = new double[shape.Geometry.Layers * shape.Geometry.KvHeads * shape.Geometry.KeyWidth];
        KeySigns = Rotation.Signs(shape.Geometry.KeyWidth, shape.RotationSeed);
        ValueSigns = Rotation.Signs(shape.Geometry.ValueWidth, shape.RotationSeed);
    }

    /// <inheritdoc/>
    public override string Name => "reference";

    /// <inheritdoc/>
    public override int* Tables => Arena;

    internal float[] KeySigns { get; }

    internal float[] ValueSigns { get; }

    internal int* Arena
    {
        get
        {
            ObjectDisposedException.ThrowIf(_arena is null, this);
            return _arena;
        }
    }

    /// <inheritdoc/>
    public override long LeafHostBytes => 0;

    /// <inheritdoc/>
    public override void WriteCount(int sequence, int row, int count) => Arena[Map.CountWord(sequence, row)] = count;

    /// <inheritdoc/>
    public override int* OpenLeaf(int sequence, int leaf, int slot)
    {
        ThrowIfNotOpenable(sequence, leaf, slot);
        Arena[Map.DirectoryWord(sequence, leaf)] = slot;
        return Arena + LeafWord(sequence, leaf);
    }

    /// <inheritdoc/>
    public override void CloseLeaf(int sequence, int leaf)
    {
        _ = LeafSlot(sequence, leaf);
        Arena[Map.DirectoryWord(sequence, leaf)] = 0;
    }

    /// <inheritdoc/>
    public override void WriteEntry(int sequence, int row, int entry, int slot, int tag) => (SlotOf(sequence, row, entry), TagOf(sequence, row, entry)) = (slot, tag);

    /// <inheritdoc/>
    public override KernelBatch CreateBatch(int maxSequences, int maxTokens) => new ReferenceBatch(this, maxSequences, maxTokens);

    /// <inheritdoc/>
    public override void Transcode(ReadOnlySpan<PageMove> moves, Span<bool> kept = default)
    {
        for (int i = 0; i < moves.Length; i++)
        {
            bool isHeld = PageTranscript.Write(this, moves[i]);
            if (!kept.IsEmpty)
            {
                kept[i] = !isHeld;
            }
        }
    }

    /// <inheritdoc/>
    public override void Materialize(ReadOnlySpan<PageRead> reads, KvOutput keys, KvOutput values)
    {
        ReferenceBatch.ThrowIfOnDevice(keys.IsOnDevice || values.IsOnDevice);
        ThrowIfNoRoom(reads, keys.Length, Shape.Geometry.KeyWidth, nameof(keys));
        ThrowIfNoRoom(reads, values.Length, Shape.Geometry.ValueWidth, nameof(values));
        Span<float> key = new float[Shape.Geometry.KeyWidth];
        Span<float> value = new float[Shape.Geometry.ValueWidth];
        foreach (PageRead read in reads)
        {
            for (int t = 0; t < read.Tokens; t++)
            {
                int vector = read.TargetVector + (t * read.TargetStride);
                if (keys.Length > 0)
                {
                    Keys(read.Slot, read.PageClass).ReadPlain(t, Exponents(read.KeyRow), key);
                    keys.Put(vector, key);
                }

                if (values.Length > 0)
                {
                    Values(read.Slot, read.PageClass).ReadPlain(t, [], value);
                    values.Put(vector, value);
                }
            }
        }
    }

    /// <inheritdoc/>
    public override void ClearScores(int sequence)
    {
        for (int leaf = 0; leaf < Map.Leaves; leaf++)
        {
            if (Arena[Map.DirectoryWord(sequence, leaf)] != 0)
            {
                Words(LeafWord(sequence, leaf) + Map.LeafScores, Map.LeafScoreWords).Clear();
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
        _scales[table] = scales;
    }

    /// <inheritdoc/>
    public override bool SumsQueries
    {
        get => _sumsQueries;
        set
        {
            if (value)
            {
                ThrowIfNoSums(_sums.Length);
                Array.Clear(_sums);
            }

            _sumsQueries = value;
        }
    }

    /// <inheritdoc/>
    public override void ReadQuerySums(Span<float> squares)
    {
        ThrowIfNoSums(squares.Length);
        for (int i = 0; i < squares.Length; i++)
        {
            squares[i] = (float)Math.Min(_sums[i], float.MaxValue);
        }
    }

    /// <inheritdoc/>
    public override void Synchronize()
    {
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        if (_arena is not null)
        {
            NativeMemory.AlignedFree(_arena);
            _arena = null;
            Observe(AllocationKind.Arena, -ArenaBytes);
        }
    }

    internal byte[] Exponents(int keyRow)
    {
        (int table, int row) = Math.DivRem(keyRow, Shape.Geometry.Layers * Shape.Geometry.KvHeads);
        return _scales[table].Exponents.Slice(row * Shape.Geometry.KeyWidth, Shape.Geometry.KeyWidth).ToArray();
    }

    internal void AddQuery(int layer, int head, ReadOnlySpan<float> query)
    {
        int first = Map.Row(layer, head / Shape.Geometry.GroupSize) * query.Length;
        for (int e = 0; e < query.Length && _sumsQueries; e++)
        {
            _sums[first + e] += (double)query[e] * query[e];
        }
    }

    internal void Observe(AllocationKind kind, long bytes) => _observer?.Invoke(kind, bytes);

    internal int Count(int sequence, int row) => Arena[Map.CountWord(sequence, row)];

    internal ref int SlotOf(int sequence, int row, int entry) => ref Arena[LeafWord(sequence, Map.LeafOf(entry)) + Map.SlotInLeaf(row, entry)];

    internal ref int TagOf(int sequence, int row, int entry) => ref Arena[LeafWord(sequence, Map.LeafOf(entry)) + Map.LeafTags + Map.SlotInLeaf(row, entry)];

    internal float* Statistics(int sequence, int row, int page) => (float*)(Arena + StatsWord(sequence, row, page));

    internal int* Scores(int sequence, int row, int page) => Arena + ScoreWord(sequence, row, page);

    internal ReferencePart Keys(int slot, int pageClass) => Part(slot, pageClass, _keys[pageClass]);

    internal ReferencePart Values(int slot, int pageClass) => Part(slot, pageClass, _values[pageClass]);

    private ReferencePart Part(int slot, int pageClass, PartPlace place) => new(
        Arena + ((long)slot * PageLayout.UnitWords), Shape.Classes[pageClass].Units * PageLayout.UnitWords, place, Shape.RotationSeed);

    private Span<int> Words(long word, int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(word);
        ArgumentOutOfRangeException.ThrowIfGreaterThan((word + count) * sizeof(int), ArenaBytes, nameof(word));
        return new Span<int>(Arena + word, count);
    }
}
