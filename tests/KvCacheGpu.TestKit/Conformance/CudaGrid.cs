using System.Globalization;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>A case of attention on tensor cores.</summary>
/// <param name="Geometry">Widths, heads, page tokens and soft cap.</param>
/// <param name="Open">Format of open pages.</param>
/// <param name="Sealed">Formats of sealed pages.</param>
/// <param name="Chunk">Tokens that the first sequence appends and attends at once.</param>
/// <param name="Batch">Sequences.</param>
/// <param name="Border">The first sequence's tokens before: the place of a number in <see cref="CudaGrid.Histories"/>. The others go on from there.</param>
/// <param name="Window">Positions that a query sees; 0 for all.</param>
/// <param name="HasHole">True if the second page of each row is dropped: what comes first stays, as sinks do.</param>
/// <param name="HasStatistics">True if the tables keep statistics of pages.</param>
/// <param name="Precision">How precisely chunks are computed.</param>
public sealed record CudaCase(
    KvGeometry Geometry, PageFormat Open, (PageFormat Key, PageFormat Value) Sealed, int Chunk, int Batch, int Border, int Window, bool HasHole, bool HasStatistics,
    KvAttentionPrecision Precision = KvAttentionPrecision.Exact)
{
    /// <summary>Sequences of a batch that all have chunks.</summary>
    public const int Chunks = 3;

    /// <summary>The name in test results.</summary>
    public string Name => string.Create(
        CultureInfo.InvariantCulture,
        $"{Sealed.Key}/{Sealed.Value} open {Open} width {Geometry.KeyWidth}/{Geometry.ValueWidth} page {Geometry.PageTokens} heads {Geometry.QueryHeads}/{Geometry.KvHeads} chunk {Chunk} batch {Batch} ")
        + string.Create(
            CultureInfo.InvariantCulture,
            $"from {CudaGrid.Histories(Geometry.PageTokens)[Border]} window {Window} cap {Geometry.LogitSoftCap ?? 0}{(HasHole ? " hole" : string.Empty)}{(HasStatistics ? string.Empty : " no statistics")}{(Precision == KvAttentionPrecision.Fast ? " fast" : string.Empty)}");

    /// <summary>The error that the case may have.</summary>
    public double Bound => Precision == KvAttentionPrecision.Fast ? 2e-3 : Expect.Bound;


    /// <summary>
    /// Tokens before the attended step of each sequence, and those of the step: of the others most decode, some have a short chunk; of three sequences all have chunks.
    /// </summary>
    public IEnumerable<CasePart> Parts
    {
        get
        {
            int[] histories = CudaGrid.Histories(Geometry.PageTokens);
            return Enumerable.Range(0, Batch).Select(i => new CasePart(
                histories[(Border + i) % histories.Length], i == 0 ? Chunk : Batch == Chunks ? Chunk - (5 * i) : i % 8 == 3 ? Math.Min(Chunk, 7) : 1));
        }
    }
}

/// <summary>
/// The cases of attention on tensor cores: every pair of formats, width and page size that has a kernel, with head groupings, chunks, batches, lengths around
/// the borders of one to three pages, windows, soft caps, holes, and with and without statistics.
/// </summary>
public static class CudaGrid
{
    private static readonly int[] _groups = [1, 2, 4, 6, 8, 12, 16];
    private static readonly int[] _chunks = [1, 7, 16, 64, 512];
    private static readonly int[] _batches = [1, 33];
    private static readonly float?[] _caps = [null, 30f];
    private static readonly Func<int, int>[] _windows = [_ => 0, _ => 1, p => p - 3, p => (2 * p) + 5];

    // Chunks of three sequences: query heads of a KV head, and tokens. Queries of 32, of 64 and one more, and of several blocks, among others.
    private static readonly (int Group, int Chunk)[] _many = [(4, 16), (1, 64), (8, 16), (2, 27), (5, 13), (16, 14), (1, 42), (6, 16)];

    private static readonly Lazy<IReadOnlyList<CudaCase>> _pairs = new(() => [.. Usual(), .. Many(), .. Cover()]);
    private static readonly Lazy<IReadOnlyList<CudaCase>> _common = new(() =>
    {
        CudaCase[] own = [.. Narrow(), .. Core()];
        var kernels = own.SelectMany(KernelsOf).ToHashSet();
        return [.. own.Concat(Usual()).Concat(Many()).Where(c => KernelsOf(c).All(kernels.Contains)).Distinct()];
    });

    /// <summary>
    /// Of the usual widths every kernel; then cases of all widths and page tokens in which every two choices meet. They share kernels where they can.
    /// </summary>
    public static IReadOnlyList<CudaCase> Pairs => _pairs.Value;

    /// <summary>
    /// What fits where a CPU stands in for the device: cases in which every two choices of formats, widths, groupings, chunks and batches meet, with few kernels; for each pair of formats one of each block size; and what
    /// else of the cases chosen by hand needs no other kernels.
    /// </summary>
    public static IReadOnlyList<CudaCase> Common => _common.Value;

    /// <summary>Of each pair of formats one case, for blocks of four, eight and many queries in turn.</summary>
    public static IEnumerable<CudaCase> Few => TensorKernels.Pairs.Select((pair, turn) =>
        (turn % 3 == 2 ? Many() : Usual().Where((_, place) => place % 2 == turn % 3)).First(c => c.Sealed == pair && c.Geometry.KeyWidth == 64));

    /// <summary>All combinations of formats, widths, page sizes, groupings, chunks and batches; the other choices take turns. Chunks also in the fast mode.</summary>
    public static IEnumerable<CudaCase> All => Pairwise.Product([.. Levels[..6]]).Where(IsTaken).Select((levels, i) => Case(
        [.. levels, i % Levels[6], i / 3 % Levels[7], i / 5 % Levels[8], i / 2 % Levels[9], i / 7 % Levels[10]])).Concat(Many().Where(c => c.Precision == KvAttentionPrecision.Exact)).SelectMany(WithFast);

    /// <summary>Tokens of sequences before a step: on both sides of the borders of pages.</summary>
    public static int[] Histories(int pageTokens) =>
        [pageTokens - 1, pageTokens, pageTokens + 1, (2 * pageTokens) - 1, (2 * pageTokens) + 1, (3 * pageTokens) - 1, 3 * pageTokens];

    // Of each choice how many there are: first those that are not free of each other.
    private static int[] Levels =>
    [
        TensorKernels.Pairs.Count, TensorKernels.Widths.Count, TensorKernels.PageTokens.Count,
        _groups.Length, _chunks.Length, _batches.Length, Histories(1).Length, _windows.Length, _caps.Length, 2, 2,
    ];

    private static IEnumerable<CudaCase> Cover() => Pairwise.Cover(Levels, 3, IsTaken, chosen => KernelsOf(Case(chosen)), Usual().Concat(Many()).SelectMany(KernelsOf)).Select(Case);

    // Of each pair of formats the kernels for blocks of four and of eight queries at width 64, and one for many queries, at a width by turns.
    private static IEnumerable<CudaCase> Core() => Usual().Where(c => c.Geometry.KeyWidth == 64)
        .Concat(TensorKernels.Pairs.Select((pair, turn) => Many().First(c => c.Sealed == pair && c.Geometry.KeyWidth == (turn % 2 == 0 ? 128 : 80))));

    // Every two choices of formats, widths, groupings, chunks and batches, with as few kernels as that takes beside those above: page tokens and cap go with width and formats, the
    // other choices take turns.
    private static IEnumerable<CudaCase> Narrow() => Pairwise.Cover(
        [Levels[0], Levels[1], Levels[3], Levels[4], Levels[5]], 2, chosen => IsTaken(Full(chosen, 0)), chosen => KernelsOf(Case(Full(chosen, 0))), Core().SelectMany(KernelsOf), prefersFirst: true)
        .Select((chosen, turn) => Case(Full(chosen, turn)));

    private static int[] Full(int[] chosen, int turn)
    {
        (int tokens, int cap) = TensorKernels.Widths[chosen[1]].Key switch
        {
            96 => (chosen[0] % 2 == 0 ? 16 : 32, 1),
            256 => (128, 0),
            _ => (64, 0),
        };
        return
        [
            chosen[0], chosen[1], TensorKernels.PageTokens.ToList().IndexOf(tokens), .. chosen.Length > 2 ? chosen[2..] : [0, 0, 0],
            turn % Levels[6], turn / 3 % Levels[7], cap, turn / 2 % 2, turn / 5 % 2,
        ];
    }

    /// <summary>What tells the kernels that a case launches from those of others: each takes seconds to compile where a CPU stands in for the device.</summary>
    public static IEnumerable<(PageFormat Key, PageFormat Value, int Width, int PageTokens, bool IsCapped, int BlockQueries)> KernelsOf(CudaCase one)
    {
        KvGeometry g = one.Geometry;
        bool takesMany = TakesMany(g, one.Sealed);
        return from pair in (IEnumerable<(PageFormat Key, PageFormat Value)>)[(one.Open, one.Open), one.Sealed]
               from part in one.Parts
               let queries = part.Tokens * g.GroupSize
               select (pair.Key, pair.Value, g.KeyWidth, g.PageTokens, g.LogitSoftCap is not null, queries <= 4 ? 4 : takesMany && queries >= 32 ? 64 : 8);
    }

    // Of the usual widths of each pair of formats a case of the kernel for blocks of four queries, then one of that for eight.
    private static IEnumerable<CudaCase> Usual()
    {
        int turn = 0;
        for (int pair = 0; pair < TensorKernels.Pairs.Count; pair++)
        {
            foreach (int width in (int[])[64, 128])
            {
                foreach (int heads in (int[])[turn % 3, 3 + (turn % 4)])
                {
                    // Long enough for two sealed pages, and no window that hides them.
                    yield return Case(
                    [
                        pair, TensorKernels.Widths.ToList().FindIndex(w => w.Key == width), TensorKernels.PageTokens.ToList().IndexOf(64), heads, 0, turn % 2,
                        3 + (turn % (Levels[6] - 3)), turn % 3 == 1 ? Levels[7] - 1 : 0, 0, turn / 2 % 2, turn / 3 % 2,
                    ]);
                }

                turn++;
            }
        }
    }

    private static IEnumerable<CudaCase> WithFast(CudaCase exact) =>
        exact.Precision == KvAttentionPrecision.Exact && exact.Chunk * exact.Geometry.GroupSize >= 32 && TakesMany(exact.Geometry, exact.Sealed)
            ? [exact, exact with { Precision = KvAttentionPrecision.Fast }]
            : [exact];

    private static bool TakesMany(KvGeometry geometry, (PageFormat Key, PageFormat Value) pair) =>
        TensorKernels.Refusal(geometry, pair.Key, pair.Value) is null && TensorKernels.Prefill(geometry, pair.Key, pair.Value, KvAttentionPrecision.Exact) is not null;

    private static IEnumerable<CudaCase> Many()
    {
        int turn = 0;
        foreach ((PageFormat Key, PageFormat Value) pair in TensorKernels.Pairs)
        {
            foreach ((int key, int value) in TensorKernels.Widths)
            {
                (int group, int chunk) = _many[turn % _many.Length];
                KvGeometry geometry = new(1, 2 * group, 2, key, value, 64);
                if (TakesMany(geometry, pair))
                {
                    bool isFew = key == 128 && pair.Key is PageFormat.F16 or PageFormat.BF16 or PageFormat.T4;

                    // From two pages on, and through no short window: sealed pages are seen.
                    int window = turn % 3 == 1 ? _windows[3](64) : 0;
                    CudaCase one = new(
                        geometry,
                        pair.Key.IsFullPrecision() ? pair.Key : PageFormat.F16,
                        pair,
                        chunk,
                        CudaCase.Chunks,
                        Border: 3 + (turn % 4),
                        window,
                        HasHole: window == 0 && turn % 2 == 0,
                        HasStatistics: turn % 5 != 4);
                    turn++;
                    yield return one;
                    if (isFew)
                    {
                        yield return one with { Precision = KvAttentionPrecision.Fast, Window = 0 };
                    }
                }
            }
        }
    }

    private static bool IsTaken(int[] levels)
    {
        ((PageFormat Key, PageFormat Value) pair, (int Key, int Value) width) = (TensorKernels.Pairs[levels[0]], TensorKernels.Widths[levels[1]]);
        return pair.Key.Takes(width.Key) && pair.Value.Takes(width.Value)
            && TensorKernels.Refusal(new KvGeometry(1, 1, 1, width.Key, width.Value, TensorKernels.PageTokens[levels[2]]), pair.Key, pair.Value) is null;
    }

    private static CudaCase Case(int[] levels)
    {
        ((PageFormat Key, PageFormat Value) pair, (int Key, int Value) width) = (TensorKernels.Pairs[levels[0]], TensorKernels.Widths[levels[1]]);
        int pageTokens = TensorKernels.PageTokens[levels[2]];

        // One KV head where there is much to compute, else two: with an odd grouping of heads between them mistakes show.
        int kvHeads = levels[5] == 1 || width.Key > 128 || _chunks[levels[4]] > 64 ? 1 : 2;
        KvGeometry geometry = new(1, _groups[levels[3]] * kvHeads, kvHeads, width.Key, width.Value, pageTokens) { LogitSoftCap = _caps[levels[8]] };

        // A sealed format that open pages may have is theirs too. One other is enough: each has kernels of its own, which take long to compile.
        PageFormat open = pair.Key.IsFullPrecision() ? pair.Key : PageFormat.F16;
        return new CudaCase(
            geometry, open, pair, _chunks[levels[4]], _batches[levels[5]], levels[6], _windows[levels[7]](pageTokens), HasHole: levels[9] == 1, HasStatistics: levels[10] == 0);
    }
}
