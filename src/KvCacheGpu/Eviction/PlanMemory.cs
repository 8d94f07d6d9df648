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

    public PlanMemory(KernelShape shape, KvStatistics needs, MemoryLedger ledger)
    {
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
