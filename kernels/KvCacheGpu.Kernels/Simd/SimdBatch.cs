using System.Numerics;

namespace KvCacheGpu.Kernels;

/// <summary>One attention item: a tile of a sequence's queries on one KV head, over one segment of its pages.</summary>
internal readonly record struct ItemOf(RaggedSequence Sequence, int SequenceIndex, int Head, int Tile, int Segment);

/// <summary>The launches of one step on the SIMD tier.</summary>
internal sealed unsafe class SimdBatch : KernelBatch
{
    // A row is split only where each part still has a thousand tokens to hide its overhead.
    private const int MaxSegments = 16;
    private const int TokensPerSegment = 1024;

    private const int TileQueries = 32;
    private const int LongTileQueries = 128;
    private const int LongPrompt = 4096;

    // Below this many elements a loop is done before a second thread wakes.
    private const int ElementsWorthSharing = 8192;

    // The cost of a power and its update, in elements copied.
    private const int ElementsPerPower = 8;

    private readonly SimdTier _tier;
    private readonly KvGeometry _g;
    private readonly NativeBlock _memory;
    private readonly AttendScratch[] _scratch;
    private readonly SplitPlaces _splits;
    private readonly int _tileQueries;
    private readonly int _mostSegments;
    private readonly int _maxTokens;
    private readonly RaggedSequence[] _sequences;
    private readonly int[] _firstItem;
    private readonly SimdAppendWork _append;
    private readonly SimdAttendWork _attend;
    private readonly SimdObserveWork _observe;
    private readonly SimdScoreWork _score;
    private readonly float* _logSumExps;
    private readonly int _keptTokens;
    private readonly int[] _windows;
    private int _attended = -1;
    private readonly Lock _refusing = new();
    private NonFinite? _refused;
    private bool[] _kept = [];
    private int _moves;
    private int _count;
    private int _tokens;

    public SimdBatch(SimdTier tier, int maxSequences, int maxTokens)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(maxSequences, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(maxTokens, maxSequences);
        (_tier, _g, _maxTokens) = (tier, tier.Shape.Geometry, maxTokens);
        _tileQueries = TileQueriesFor(tier.Shape, maxTokens);
        _mostSegments = SegmentsOf(tier.Shape.TableCapacity, _g.PageTokens);
        _sequences = new RaggedSequence[maxSequences];
        _firstItem = new int[maxSequences + 1];
        Variants = new QueryVariants(tier.Shape);
        long worker = FloatsPerWorker(tier.Shape, maxTokens);
        int workers = tier.Pool.Workers;
        long splits = SplitPlaces.WordsFor(maxSequences * _g.KvHeads, workers, _mostSegments, _g);
        _keptTokens = tier.Shape.HasStatistics ? Math.Min(MaxObserved, maxTokens) : 0;
        long sums = (long)maxSequences * _keptTokens * _g.QueryHeads;
        _memory = new NativeBlock(((worker * workers) + splits + sums) * sizeof(float), AllocationKind.Scratch, tier.Observer);
        var memory = (float*)_memory.Pointer;
        _scratch = new AttendScratch[workers];
        for (int i = 0; i < workers; i++, memory += worker)
        {
            _scratch[i] = new AttendScratch(tier.Shape, Variants.Count, _tileQueries, memory);
        }

        _splits = new SplitPlaces(memory, maxSequences * _g.KvHeads, workers, _mostSegments, _g);
        _logSumExps = memory + splits;
        _windows = new int[_g.Layers];
        _score = SimdKernels.CreateScore(tier, this);
        _append = SimdKernels.CreateAppend(tier, this);
        _attend = SimdKernels.CreateAttend(tier, this);
        _observe = SimdKernels.CreateObserve(tier, this);
    }

    public override long ScratchBytes => _memory.Bytes;

    public QueryVariants Variants { get; }

    public AttendCall Call { get; } = new();

    public ReadOnlySpan<RaggedSequence> Sequences => _sequences.AsSpan(0, _count);

    /// <summary>Parts that a row of so many pages is split into: a function of the row alone, so that results do not depend on the batch or the threads.</summary>
    public static int SegmentsOf(int entries, int pageTokens) =>
        (int)Math.Clamp((long)entries * pageTokens / TokensPerSegment, 1, MaxSegments);

    /// <summary>Scratch of one worker, in floats.</summary>
    public static long FloatsPerWorker(KernelShape shape, int maxTokens) =>
        AttendScratch.FloatsFor(shape, new QueryVariants(shape).Count, TileQueriesFor(shape, maxTokens));

    /// <summary>Words that each thread adds to a batch: its scratch, and a place for a split row.</summary>
    public static long WordsPerThread(KernelShape shape, int maxTokens) =>
        FloatsPerWorker(shape, maxTokens) + SplitPlaces.WordsPerPlace(SegmentsOf(shape.TableCapacity, shape.Geometry.PageTokens), shape.Geometry);

    public override void Begin(ReadOnlySpan<RaggedSequence> sequences, KvStream stream = default)
    {
        _tier.ThrowIfNotMine(stream);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(sequences.Length, _sequences.Length, nameof(sequences));
        foreach (RaggedSequence s in sequences)
        {
            ArgumentOutOfRangeException.ThrowIfGreaterThan((s.Length - 1) / _g.PageTokens, _tier.Shape.TableCapacity - 1, nameof(sequences));
            ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)s.KeyTable, (uint)KernelTier.KeyTables, nameof(sequences));
        }

        for (int i = 0; i < sequences.Length; i++)
        {
            // Tables without room for statistics keep them always.
            _sequences[i] = sequences[i] with { KeepsStatistics = sequences[i].KeepsStatistics || !_tier.Shape.HasStatistics };
        }

        Array.Clear(_windows);
        _attended = -1;
        (_count, _tokens, _refused, _moves) = (sequences.Length, 0, null, 0);
        for (int i = 0; i < _count; i++)
        {
            _tokens += _sequences[i].Tokens;
            int parts = _sequences[i].Tokens == 1 ? _mostSegments : 1;
            _firstItem[i + 1] = _firstItem[i] + (_g.KvHeads * TilesOf(_sequences[i]) * parts);
        }

        ArgumentOutOfRangeException.ThrowIfGreaterThan(_tokens, _maxTokens, nameof(sequences));
    }

    public override void Append(int layer, KvTensor keys, KvTensor values)
    {
        ThrowIfOnDevice(keys.IsOnDevice || values.IsOnDevice);
        keys.ThrowIfNotShaped(_tokens, _g.KvHeads, _g.KeyWidth, nameof(keys));
        values.ThrowIfNotShaped(_tokens, _g.KvHeads, _g.ValueWidth, nameof(values));
        fixed (byte* k = keys.Host, v = values.Host)
        {
            _append.Layer = layer;
            _append.Keys = HostTensor.Pin(k, keys, _g.KvHeads, _g.KeyWidth);
            _append.Values = HostTensor.Pin(v, values, _g.KvHeads, _g.ValueWidth);
            Run(_append, _count * _g.KvHeads, (long)_tokens * _g.KvHeads * (_g.KeyWidth + _g.ValueWidth));
        }
    }

    public override void Attend(int layer, KvTensor queries, KvOutput output, int window = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(window);
        ThrowIfOnDevice(queries.IsOnDevice || output.IsOnDevice);
        queries.ThrowIfNotShaped(_tokens, _g.QueryHeads, _g.KeyWidth, nameof(queries));
        output = output.First(_tokens * _g.QueryHeads, _g.ValueWidth);
        _splits.Clear();
        fixed (byte* q = queries.Host, o = output.Host)
        fixed (float* l = output.HostLogSumExp)
        {
            (Call.Layer, Call.Queries) = (layer, HostTensor.Pin(q, queries, _g.QueryHeads, _g.KeyWidth));
            Call.Window = window == 0 ? int.MaxValue : window;
            _attend.Set(new HostOutput(o, output.Type), l);
            if (_tier.SumsQueries)
            {
                _tier.QuerySums!.Add(this, _tier.Pool);
            }

            Run(_attend, _firstItem[_count], long.MaxValue);
        }

        (_attended, _windows[layer]) = (layer, Call.Window);
    }

    public override void Observe(int layer, KvTensor queries, int last)
    {
        ThrowIfWithoutStatistics(_tier.Shape);
        ThrowIfNotObservable(layer, _attended, last);
        ThrowIfOnDevice(queries.IsOnDevice);
        queries.ThrowIfNotShaped(_tokens, _g.QueryHeads, _g.KeyWidth, nameof(queries));
        fixed (byte* q = queries.Host)
        {
            Call.Queries = HostTensor.Pin(q, queries, _g.QueryHeads, _g.KeyWidth);
            _observe.Last = last;
            Run(_observe, _count * _g.KvHeads * _mostSegments, long.MaxValue);
        }
    }

    public override void Materialize(ReadOnlySpan<PageRead> reads, KvOutput keys, KvOutput values) => _tier.Materialize(reads, keys, values);

    public override void Score(float decay, int step)
    {
        ThrowIfWithoutStatistics(_tier.Shape);
        (_score.Decay, _score.Step) = (decay, step);
        int rows = _g.Layers * _g.KvHeads;
        long entries = 0;
        for (int i = 0; i < _count; i++)
        {
            entries += (long)_tier.Tables[_tier.Map.CountWord(_sequences[i].Sequence, row: 0)] * rows;
        }

        Run(_score, _count * rows, entries * _g.GroupSize * ElementsPerPower);
    }

    public override void Seal(ReadOnlySpan<PageMove> moves)
    {
        if (_moves + moves.Length > _kept.Length)
        {
            Array.Resize(ref _kept, (int)BitOperations.RoundUpToPowerOf2((uint)(_moves + moves.Length)));
        }

        Span<bool> kept = _kept.AsSpan(_moves, moves.Length);
        kept.Clear();
        _tier.Transcode(moves, kept);
        _moves += moves.Length;
    }

    public override void Finish()
    {
        // All of it was done when it was asked for.
    }

    public override bool HasFinished => true;

    public override bool IsKept(int move) => _kept[move];

    public override NonFinite? End() => _refused;

    public override void Dispose() => _memory.Dispose();

    /// <summary>The attention window of a layer, or 0 where the layer was not attended to since the batch began.</summary>
    public int WindowOf(int layer) => _windows[layer];

    /// <summary>Keeps a query's log-sum-exp, <paramref name="back"/> tokens from its sequence's last, as far as they can be asked for.</summary>
    public void Keep(int sequence, int back, int queryHead, float logSumExp)
    {
        if (back < _keptTokens)
        {
            _logSumExps[(((sequence * _keptTokens) + back) * _g.QueryHeads) + queryHead] = logSumExp;
        }
    }

    public float Kept(int sequence, int back, int queryHead) => _logSumExps[(((sequence * _keptTokens) + back) * _g.QueryHeads) + queryHead];

    public AttendScratch Scratch(int worker) => _scratch[worker];

    public int TilesOf(in RaggedSequence sequence) => (int)((((long)sequence.Tokens * _g.GroupSize) + _tileQueries - 1) / _tileQueries);

    /// <summary>The row of a sequence that a launch of one layer reads.</summary>
    public TableRow RowOf(in RaggedSequence sequence, int layer, int head) => new(_tier, sequence.Sequence, _tier.Map.Row(layer, head));

    /// <summary>The place of an item that observes: (sequence, KV head, segment).</summary>
    public ItemOf FindObserved(int item)
    {
        (int rest, int segment) = Math.DivRem(item, _mostSegments);
        (int index, int head) = Math.DivRem(rest, _g.KvHeads);
        return new ItemOf(_sequences[index], index, head, 0, segment);
    }

    /// <summary>The item's place in the batch; a sequence's last tiles, which see the most, come first.</summary>
    public ItemOf Find(int item)
    {
        int index = _firstItem.AsSpan(0, _count + 1).BinarySearch(item);
        index = index >= 0 ? index : ~index - 1;
        RaggedSequence sequence = _sequences[index];
        int parts = sequence.Tokens == 1 ? _mostSegments : 1;
        (int rest, int segment) = Math.DivRem(item - _firstItem[index], parts);
        int tiles = TilesOf(sequence);
        if (sequence.Tokens == 1)
        {
            // All parts of a row follow one another, those of its tiles too: there are places for few rows that are begun and not done.
            (int row, int part) = Math.DivRem(rest, tiles);
            return new ItemOf(sequence, index, row, tiles - 1 - part, segment);
        }

        (int tile, int head) = Math.DivRem(rest, _g.KvHeads);
        return new ItemOf(sequence, index, head, tiles - 1 - tile, segment);
    }

    /// <summary>Where the parts of a (sequence, KV head) meet, from its first part that is done to <see cref="EndSplit"/>.</summary>
    public SplitResults SplitOf(int sequence, int head) => _splits.Of((sequence * _g.KvHeads) + head);

    /// <summary>Gives the place of a (sequence, KV head) back, whose parts were merged.</summary>
    public void EndSplit(int sequence, int head) => _splits.Free((sequence * _g.KvHeads) + head);

    /// <summary>Keeps the first refusal in the order of layer, token, head, keys before values.</summary>
    public void Refuse(NonFinite found)
    {
        lock (_refusing)
        {
            if (_refused is not { } first || Order(found).CompareTo(Order(first)) < 0)
            {
                _refused = found;
            }
        }

        static (int, int, int, bool) Order(NonFinite x) => (x.Layer, x.Token, x.Head, x.IsValue);
    }

    private void Run(ParallelWork work, int items, long elements)
    {
        if (elements >= ElementsWorthSharing)
        {
            _tier.Pool.Run(work, items);
            return;
        }

        for (int item = 0; item < items; item++)
        {
            work.Do(item, 0);
        }
    }

    // A page is made ready once for a tile of queries: where prompts may be long, tiles are four times as large, and so is their scratch.
    private static int TileQueriesFor(KernelShape shape, int maxTokens)
    {
        long longest = (long)shape.TableCapacity * shape.Geometry.PageTokens;
        return (int)Math.Min(longest < LongPrompt ? TileQueries : LongTileQueries, (((long)maxTokens * shape.Geometry.GroupSize) + 3) & ~3L);
    }

    /// <exception cref="NotSupportedException">A tensor lies on a device.</exception>
    internal static void ThrowIfOnDevice(bool onDevice)
    {
        if (onDevice)
        {
            throw new NotSupportedException("memory of a device, while the cache lies in host memory: pass host tensors and host outputs");
        }
    }
}
