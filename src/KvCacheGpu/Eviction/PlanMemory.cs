using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// The memory that a sequence's plan is made in: arrays with one element for every page that its rows could list. One per cache, reserved with it and
/// part of its budget; users are inside of <see cref="Gate"/>.
/// </summary>
/// <remarks>
/// <code>
/// n pages at most; int32 or f32 each where not said otherwise:
///   row starts [rows + 1] | index [n] | bytes [n] | class, fixed: bytes [n] each, transitions: 2 bytes [n]
///   of policies that ask for scores:   mass | peak | last | window | last used | uses | |k|^2 | |v|^2, [n] each
///                                      |q|^2, |o|^2 [rows] each | scores of one leaf, see TableMap
///   of policies that ask for it:       mean keys f32[n][key width]
///                                      queries to come: mean, variance f32[rows][key width] each
/// </code>
/// </remarks>
internal sealed unsafe class PlanMemory : IDisposable
{
    private const int PlainColumns = 3;
    private const int ScoreColumns = 8;

    private readonly NativeInts _memory;
    private readonly int _rows;
    private readonly int _most;
    private readonly int _scoreColumns;
    private readonly int _leafScores;
    private readonly int _width;
    private readonly long _means;
    private readonly KvStatistics _needs;

    public PlanMemory(KernelShape shape, KvStatistics needs, MemoryLedger ledger)
    {
        _needs = needs;
        _rows = shape.Geometry.Layers * shape.Geometry.KvHeads;
        _leafScores = LeafScoreWords(shape);
        _most = checked(_rows * shape.TableCapacity);
        _scoreColumns = needs.HaveScores() ? ScoreColumns : 0;
        _width = shape.Geometry.KeyWidth;
        _means = needs.Has(KvStatistics.KeyMeans) ? (long)_most * _width : 0;
        _memory = new NativeInts(Words(shape, needs), ledger);
    }

    /// <summary>The caller is inside of it while a plan is made and carried out.</summary>
    public Gate Gate { get; } = new(GateOrder.Plan);

    /// <summary>Pages listed now.</summary>
    public int Count { get; set; }

    public Span<int> RowStarts => new(_memory.Pointer, _rows + 1);

    public Span<int> Index => Ints(0);

    public Span<int> Bytes => Ints(1);

    public Span<byte> Class => new(Column(2), Count);

    public Span<bool> Fixed => new((byte*)Column(2) + _most, Count);

    public Span<KvTransition> Plan => new((byte*)Column(2) + (2L * _most), Count);

    public Span<float> QuerySquare => new(Column(PlainColumns + _scoreColumns), _rows);

    public Span<float> OutputSquare => new(Column(PlainColumns + _scoreColumns) + _rows, _rows);

    /// <summary>The scores of one leaf's pages as the tables hold them; empty where they hold none.</summary>
    public Span<int> LeafScores => new(Column(PlainColumns + _scoreColumns) + (2L * _rows), _leafScores);

    public static long BookkeepingBytes(KernelShape shape, KvStatistics needs) => Words(shape, needs) * sizeof(int);

    /// <summary>One of the tables' scores of all pages, by its word (<see cref="TableMap.ScoreMass"/>).</summary>
    public Span<int> Score(int word) => Ints(PlainColumns + word);

    /// <summary>The same as numbers; empty where no scores are kept.</summary>
    public Span<float> Scores(int word) => _scoreColumns == 0 ? default : new(Column(PlainColumns + word), Count);

    /// <summary>Mean keys, [pages][key width].</summary>
    public Span<float> KeyMeans => new(Vectors, Count * _width);

    /// <summary>Mean queries to come, [rows][key width].</summary>
    public Span<float> FutureMean => new(Vectors + _means, _rows * _width);

    /// <summary>Their variance, [rows][key width].</summary>
    public Span<float> FutureVariance => new(Vectors + _means + ((long)_rows * _width), _rows * _width);

    /// <summary>Takes over a page's scores, as the tables hold them; one that is no finite number counts as 0.</summary>
    public void TakeScores(int page, ReadOnlySpan<int> words)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)page, (uint)Count);
        int* column = Column(PlainColumns) + page;
        for (int word = 0; word < words.Length; word++, column += _most)
        {
            bool isNumber = word is TableMap.ScoreLastUsed or TableMap.ScoreUses;
            *column = isNumber || float.IsFinite(BitConverter.Int32BitsToSingle(words[word])) ? words[word] : 0;
        }
    }

    /// <summary>The pages as a policy sees them.</summary>
    /// <param name="geometry">The shape of the rows.</param>
    /// <param name="ladder">What <see cref="Class"/> names.</param>
    /// <param name="sequence">The sequence that they are of.</param>
    /// <param name="step">Steps committed.</param>
    /// <param name="offloadBytes">Bytes of host memory that are left for pages that go. The default value is 0.</param>
    public KvPages View(KvGeometry geometry, ReadOnlySpan<KvRung> ladder, SequenceState sequence, long step, long offloadBytes = 0)
    {
        bool squares = _needs.Has(KvStatistics.Queries);
        return new KvPages(geometry, sequence.Length, RowStarts, Index)
        {
            Step = step,
            OffloadBytes = offloadBytes,
            Samples = sequence.Scores?.Samples ?? 0,
            Bytes = Bytes,
            Class = Class,
            Fixed = Fixed,
            Ladder = ladder,
            SegmentStarts = sequence.SegmentStarts,
            Mass = Scores(TableMap.ScoreMass),
            Peak = Scores(TableMap.ScorePeak),
            LastMass = Scores(TableMap.ScoreLast),
            WindowMass = Scores(TableMap.ScoreWindow),
            LastUsed = _needs.HaveScores() ? Score(TableMap.ScoreLastUsed) : default,
            Uses = _needs.HaveScores() ? Score(TableMap.ScoreUses) : default,
            KeySquare = squares ? Scores(TableMap.ScoreKeySquare) : default,
            ValueSquare = squares ? Scores(TableMap.ScoreValueSquare) : default,
            QuerySquare = squares ? QuerySquare : default,
            OutputSquare = squares ? OutputSquare : default,
            KeyMean = _needs.Has(KvStatistics.KeyMeans) ? KeyMeans : default,
            FutureQueryMean = _needs.Has(KvStatistics.FutureQueries) ? FutureMean : default,
            FutureQueryVariance = _needs.Has(KvStatistics.FutureQueries) ? FutureVariance : default,
        };
    }

    /// <summary>Copies what is known of a row and its pages, apart from their classes and plan, from the memory of a part of the model.</summary>
    /// <param name="from">The part's; it was made with the same statistics.</param>
    /// <param name="fromRow">The row there.</param>
    /// <param name="row">The row here; <see cref="RowStarts"/> have room for the pages.</param>
    public void CopyRow(PlanMemory from, int fromRow, int row)
    {
        (int first, int count) = (from.RowStarts[fromRow], from.RowStarts[fromRow + 1] - from.RowStarts[fromRow]);
        int at = RowStarts[row];
        from.Index.Slice(first, count).CopyTo(Index[at..]);
        from.Bytes.Slice(first, count).CopyTo(Bytes[at..]);
        from.Fixed.Slice(first, count).CopyTo(Fixed[at..]);
        for (int word = 0; word < _scoreColumns; word++)
        {
            from.Score(word).Slice(first, count).CopyTo(Score(word)[at..]);
        }

        (QuerySquare[row], OutputSquare[row]) = (from.QuerySquare[fromRow], from.OutputSquare[fromRow]);
        if (_needs.Has(KvStatistics.KeyMeans))
        {
            from.KeyMeans.Slice(first * _width, count * _width).CopyTo(KeyMeans[(at * _width)..]);
        }

        if (_needs.Has(KvStatistics.FutureQueries))
        {
            from.FutureMean.Slice(fromRow * _width, _width).CopyTo(FutureMean[(row * _width)..]);
            from.FutureVariance.Slice(fromRow * _width, _width).CopyTo(FutureVariance[(row * _width)..]);
        }
    }

    private int* Vectors => Column(PlainColumns + _scoreColumns) + (2L * _rows) + _leafScores;

    public void Dispose() => _memory.Dispose();

    private static long Words(KernelShape shape, KvStatistics needs)
    {
        long rows = (long)shape.Geometry.Layers * shape.Geometry.KvHeads;
        long pages = rows * shape.TableCapacity;
        return rows + 1 + (pages * (PlainColumns + (needs.HaveScores() ? ScoreColumns : 0)))
            + (2 * rows) + LeafScoreWords(shape)
            + (needs.Has(KvStatistics.KeyMeans) ? pages * shape.Geometry.KeyWidth : 0)
            + (needs.Has(KvStatistics.FutureQueries) ? 2 * rows * shape.Geometry.KeyWidth : 0);
    }

    private static int LeafScoreWords(KernelShape shape) => shape.HasStatistics ? new TableMap(shape).LeafScoreWords : 0;

    private int* Column(int column) => _memory.Pointer + _rows + 1 + ((long)column * _most);

    private Span<int> Ints(int column) => new(Column(column), Count);
}
