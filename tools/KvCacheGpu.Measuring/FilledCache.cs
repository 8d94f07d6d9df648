using KvCacheGpu.Kernels;

namespace KvCacheGpu.Measuring;

/// <summary>
/// What a measurement attends to: one layer, <see cref="Sequences"/> x <see cref="Context"/> tokens, by the queries of the last <see cref="QueryTokens"/>.
/// </summary>
internal sealed record AttendShape(
    int Width, int KvHeads, int GroupSize, int Sequences, int Context, PageFormat Key, PageFormat Value, int PageTokens = 64, int QueryTokens = 1,
    KvAttentionPrecision Precision = KvAttentionPrecision.Exact)
{
    /// <summary>Keys and values in one format.</summary>
    public AttendShape(int width, int kvHeads, int groupSize, int sequences, int context, PageFormat format)
        : this(width, kvHeads, groupSize, sequences, context, format, format)
    {
    }

    public KvGeometry Geometry => new(layers: 1, KvHeads * GroupSize, KvHeads, Width, pageTokens: PageTokens);

    /// <summary>Operations of the two products of one attention: each query with the tokens up to its own.</summary>
    public double Operations => 2.0 * 2 * Width * KvHeads * GroupSize * Sequences * QueryTokens * (Context - ((QueryTokens - 1) / 2.0));

    /// <summary>Bytes of the pages, as if all were sealed.</summary>
    public long PageBytes => (long)Sequences * KvHeads * Geometry.PagesFor(Context) * new PageLayout(Geometry, Key, Value).Bytes;

    /// <summary>Full precision of the open pages: that of the sealed ones, if they are not compressed.</summary>
    public PageFormat OpenFormat => Key.IsFullPrecision() ? Key : PageFormat.F16;

    /// <summary>Pages of a sequence that are sealed: all but the last two, so that attention reads both classes of pages.</summary>
    public int SealedPages => Math.Max(0, Geometry.PagesFor(Context) - FilledCache.OpenPages);

    /// <summary>Bytes of pages that one attention reads.</summary>
    public long BytesRead => (long)Sequences * KvHeads * (((long)SealedPages * new PageLayout(Geometry, Key, Value).Bytes)
        + ((long)(Geometry.PagesFor(Context) - SealedPages) * new PageLayout(Geometry, OpenFormat, OpenFormat).Bytes));

    public override string ToString() => $"{Sequences} x {Context / 1024}k d{Width} GQA {GroupSize} {(Key == Value ? $"{Key}" : $"{Key}/{Value}")}";
}

/// <summary>A tier whose pages hold Gaussian keys and values, sealed but for the last two pages of each sequence, in shuffled slots.</summary>
internal sealed unsafe class FilledCache : IDisposable
{
    /// <summary>What a sequence ends with, never sealed.</summary>
    public const int OpenPages = 2;

    private readonly float[] _queries;
    private readonly float[] _output;

    public FilledCache(AttendShape shape, Func<KernelShape, long, KernelTier> create, int batchTokens = 512)
    {
        Shape = shape;
        KvGeometry g = shape.Geometry;
        var open = new PageLayout(g, shape.OpenFormat, shape.OpenFormat);
        var closed = new PageLayout(g, shape.Key, shape.Value);
        int pages = g.PagesFor(shape.Context);
        var kernels = new KernelShape(g, open, closed, rotationSeed: 1, shape.Sequences, pages) { Precision = shape.Precision };
        var map = new TableMap(kernels);
        int sealedPages = shape.SealedPages;
        int stagedPages = Math.Min(sealedPages, batchTokens / g.PageTokens);
        long openPages = (long)g.KvHeads * ((shape.Sequences * OpenPages) + stagedPages);
        int leaves = shape.Sequences * map.Leaves;
        Tier = create(kernels, map.Bytes + (leaves * map.LeafBytes) + ((long)shape.Sequences * g.KvHeads * sealedPages * closed.Bytes) + (openPages * open.Bytes));
        Batch = Tier.CreateBatch(shape.Sequences, Math.Max(shape.Sequences * shape.QueryTokens, batchTokens));
        for (int i = 0; i < leaves; i++)
        {
            Tier.OpenLeaf(i / map.Leaves, i % map.Leaves, map.FirstPageUnit + (i * map.LeafUnits));
        }

        long firstOpen = map.FirstPageUnit + ((long)leaves * map.LeafUnits);
        long firstSealed = firstOpen + (openPages * open.Units);
        float[] keys = Gaussian(new Random(3), batchTokens * g.KvHeads * Math.Max(g.KeyWidth, g.ValueWidth));
        Seal(keys, stagedPages, sealedPages, page => (int)(firstOpen + ((long)page * open.Units)), page => (int)(firstSealed + ((long)page * closed.Units)));
        Open(keys, sealedPages, page => (int)(firstOpen + (((long)(g.KvHeads * stagedPages) + page) * open.Units)));
        var random = new Random(7);
        _queries = Gaussian(random, shape.Sequences * shape.QueryTokens * g.QueryHeads * g.KeyWidth);
        _output = new float[shape.Sequences * shape.QueryTokens * g.QueryHeads * g.ValueWidth];
        Batch.Begin(Decode(shape));
    }

    public AttendShape Shape { get; }

    public KernelTier Tier { get; }

    public KernelBatch Batch { get; }

    /// <summary>One decode step's attention of every sequence.</summary>
    public void Attend()
    {
        Batch.Attend(0, _queries, _output);
        Batch.End();
    }

    public void Dispose()
    {
        Batch.Dispose();
        Tier.Dispose();
    }

    /// <summary>Normal numbers; a million of them, and then the same again, since they take longer to draw than a device to read.</summary>
    public static float[] Gaussian(Random random, int count)
    {
        const int Drawn = 1 << 20;
        var values = new float[count];
        for (int i = 0; i < Math.Min(count, Drawn); i++)
        {
            values[i] = (float)(Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble()));
        }

        for (int at = Drawn; at < count; at += Drawn)
        {
            values.AsSpan(0, Math.Min(Drawn, count - at)).CopyTo(values.AsSpan(at));
        }

        return values;
    }

    private static RaggedSequence[] Decode(AttendShape shape) =>
        [.. Enumerable.Range(0, shape.Sequences).Select(s => new RaggedSequence(s, s * shape.QueryTokens, shape.QueryTokens, shape.Context))];

    // A few pages are appended once and encoded into every sealed page in turn, so that gigabytes are filled without the host's tensors.
    private void Seal(float[] numbers, int staged, int sealedPages, Func<int, int> stagedSlot, Func<int, int> sealedSlot)
    {
        if (staged == 0)
        {
            return;
        }

        KvGeometry g = Shape.Geometry;
        for (int h = 0; h < g.KvHeads; h++)
        {
            for (int page = 0; page < staged; page++)
            {
                Tier.WriteEntry(0, Tier.Map.Row(0, h), page, stagedSlot((h * staged) + page), TableMap.Tag(KernelShape.Open, page));
            }

            Tier.WriteCount(0, Tier.Map.Row(0, h), staged);
        }

        Append(numbers, 0, staged * g.PageTokens, staged * g.PageTokens);
        int[] order = [.. Enumerable.Range(0, Shape.Sequences * g.KvHeads * sealedPages)];
        new Random(3).Shuffle(order);
        var moves = new List<PageMove>();
        for (int at = 0; at < order.Length; at++)
        {
            (int row, int page) = Math.DivRem(at, sealedPages);
            (int s, int h) = Math.DivRem(row, g.KvHeads);
            int slot = sealedSlot(order[at]);
            moves.Add(new PageMove(stagedSlot((h * staged) + (page % staged)), KernelShape.Open, slot, KernelShape.Sealed, g.PageTokens));
            Tier.WriteEntry(s, Tier.Map.Row(0, h), page, slot, TableMap.Tag(KernelShape.Sealed, page));
            if (moves.Count == 4096 || at + 1 == order.Length)
            {
                Tier.Transcode(moves.ToArray());
                moves.Clear();
            }
        }
    }

    private void Open(float[] numbers, int sealedPages, Func<int, int> slot)
    {
        KvGeometry g = Shape.Geometry;
        int pages = g.PagesFor(Shape.Context);
        for (int s = 0; s < Shape.Sequences; s++)
        {
            for (int h = 0; h < g.KvHeads; h++)
            {
                for (int page = sealedPages; page < pages; page++)
                {
                    int own = (((s * g.KvHeads) + h) * OpenPages) + page - sealedPages;
                    Tier.WriteEntry(s, Tier.Map.Row(0, h), page, slot(own), TableMap.Tag(KernelShape.Open, page));
                }

                Tier.WriteCount(s, Tier.Map.Row(0, h), pages);
            }

            Append(numbers, s, Shape.Context - (sealedPages * g.PageTokens), Shape.Context);
        }
    }

    private void Append(float[] numbers, int sequence, int tokens, int length)
    {
        KvGeometry g = Shape.Geometry;
        Batch.Begin([new RaggedSequence(sequence, 0, tokens, length)]);
        ReadOnlySpan<float> keys = numbers.AsSpan(0, tokens * g.KvHeads * g.KeyWidth), values = numbers.AsSpan(numbers.Length - (tokens * g.KvHeads * g.ValueWidth));
        Batch.Append(0, KvTensor.FromHost(keys), KvTensor.FromHost(values));
        Batch.End();
    }
}
