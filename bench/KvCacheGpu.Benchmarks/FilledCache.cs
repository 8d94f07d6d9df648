using KvCacheGpu.Kernels;

namespace KvCacheGpu.Benchmarks;

/// <summary>What a measurement attends to: one layer, <see cref="Sequences"/> x <see cref="Context"/> tokens.</summary>
internal sealed record AttendShape(
    int Width, int KvHeads, int GroupSize, int Sequences, int Context, PageFormat Key, PageFormat Value, int PageTokens = 64)
{
    /// <summary>Keys and values in one format.</summary>
    public AttendShape(int width, int kvHeads, int groupSize, int sequences, int context, PageFormat format)
        : this(width, kvHeads, groupSize, sequences, context, format, format)
    {
    }

    public KvGeometry Geometry => new(layers: 1, KvHeads * GroupSize, KvHeads, Width, pageTokens: PageTokens);

    public override string ToString() => $"{Sequences} x {Context / 1024}k d{Width} GQA {GroupSize} {(Key == Value ? $"{Key}" : $"{Key}/{Value}")}";
}

/// <summary>A tier whose pages hold Gaussian keys and values, sealed but for the last two pages of each sequence, in shuffled slots.</summary>
internal sealed unsafe class FilledCache : IDisposable
{
    private readonly float[] _queries;
    private readonly float[] _output;

    public FilledCache(AttendShape shape, Func<KernelShape, long, KernelTier> create, int batchTokens = 512)
    {
        Shape = shape;
        KvGeometry g = shape.Geometry;
        PageFormat openFormat = shape.Key.IsFullPrecision() ? shape.Key : PageFormat.F16;
        var open = new PageLayout(g, openFormat, openFormat);
        var closed = new PageLayout(g, shape.Key, shape.Value);
        int pages = g.PagesFor(shape.Context);
        var kernels = new KernelShape(g, open, closed, rotationSeed: 1, shape.Sequences, pages);
        var map = new TableMap(kernels);
        long sealedPages = (long)shape.Sequences * g.KvHeads * pages;
        int stagingPages = g.KvHeads * (g.PagesFor(batchTokens) + 1);
        long openPages = (2L * shape.Sequences * g.KvHeads) + stagingPages;
        int leaves = shape.Sequences * map.Leaves;
        Tier = create(kernels, map.Bytes + (leaves * map.LeafBytes) + (sealedPages * closed.Bytes) + (openPages * open.Bytes));
        Batch = Tier.CreateBatch(shape.Sequences, Math.Max(shape.Sequences, batchTokens));
        for (int i = 0; i < leaves; i++)
        {
            Tier.OpenLeaf(i / map.Leaves, i % map.Leaves, map.FirstPageUnit + (i * map.LeafUnits));
        }

        long firstOpen = map.FirstPageUnit + ((long)leaves * map.LeafUnits);
        long firstSealed = firstOpen + (openPages * open.Units);
        Fill(open, closed, firstOpen, firstSealed, stagingPages, batchTokens);
        var random = new Random(7);
        _queries = Gaussian(random, shape.Sequences * g.QueryHeads * g.KeyWidth);
        _output = new float[shape.Sequences * g.QueryHeads * g.ValueWidth];
        Batch.Begin(Decode(shape));
    }

    public AttendShape Shape { get; }

    public KernelTier Tier { get; }

    public KernelBatch Batch { get; }

    /// <summary>Bytes of pages that one attention reads.</summary>
    public long BytesRead { get; private set; }

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

    public static float[] Gaussian(Random random, int count)
    {
        var values = new float[count];
        for (int i = 0; i < count; i++)
        {
            values[i] = (float)(Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble()));
        }

        return values;
    }

    private static RaggedSequence[] Decode(AttendShape shape) =>
        [.. Enumerable.Range(0, shape.Sequences).Select(s => new RaggedSequence(s, s, 1, shape.Context))];

    private void Fill(PageLayout open, PageLayout closed, long firstOpen, long firstSealed, int stagingPages, int batchTokens)
    {
        KvGeometry g = Shape.Geometry;
        var random = new Random(3);
        float[] keys = Gaussian(random, batchTokens * g.KvHeads * g.KeyWidth);
        float[] values = Gaussian(random, batchTokens * g.KvHeads * g.ValueWidth);
        int pages = g.PagesFor(Shape.Context);
        int[] order = [.. Enumerable.Range(0, Shape.Sequences * g.KvHeads * pages)];
        random.Shuffle(order);
        var moves = new List<PageMove>();
        for (int s = 0; s < Shape.Sequences; s++)
        {
            for (int start = 0; start < Shape.Context; start += batchTokens)
            {
                int tokens = Math.Min(batchTokens, Shape.Context - start);
                int chunkPages = g.PagesFor(tokens);
                bool last = start + tokens == Shape.Context;
                moves.Clear();
                for (int h = 0; h < g.KvHeads; h++)
                {
                    int row = Tier.Map.Row(0, h);
                    for (int p = 0; p < chunkPages; p++)
                    {
                        int page = (start / g.PageTokens) + p;
                        bool stays = last && p >= chunkPages - 2;
                        int openSlot = stays
                            ? stagingPages + (((s * g.KvHeads) + h) * 2) + (p - chunkPages + 2)
                            : (h * (g.PagesFor(batchTokens) + 1)) + p;
                        int slot = (int)(firstOpen + ((long)openSlot * open.Units));
                        Tier.WriteEntry(s, row, page, slot, TableMap.Tag(KernelShape.Open, page));
                        if (!stays)
                        {
                            int place = order[(((s * g.KvHeads) + h) * pages) + page];
                            moves.Add(new PageMove(slot, KernelShape.Open, (int)(firstSealed + ((long)place * closed.Units)), KernelShape.Sealed, g.PageTokens));
                        }

                        BytesRead += stays ? open.Bytes : closed.Bytes;
                    }

                    Tier.WriteCount(s, row, (start / g.PageTokens) + chunkPages);
                }

                Batch.Begin([new RaggedSequence(s, 0, tokens, start + tokens)]);
                Batch.Append(0, KvTensor.FromHost(keys.AsSpan(0, tokens * g.KvHeads * g.KeyWidth)), KvTensor.FromHost(values.AsSpan(0, tokens * g.KvHeads * g.ValueWidth)));
                Batch.End();
                Tier.Transcode(moves.ToArray());
                Swap(s, start / g.PageTokens, last ? chunkPages - 2 : chunkPages, moves);
            }
        }
    }

    private void Swap(int sequence, int firstPage, int sealedPages, List<PageMove> moves)
    {
        int next = 0;
        for (int h = 0; h < Shape.KvHeads; h++)
        {
            for (int page = firstPage; page < firstPage + sealedPages; page++)
            {
                Tier.WriteEntry(sequence, Tier.Map.Row(0, h), page, moves[next++].TargetSlot, TableMap.Tag(KernelShape.Sealed, page));
            }
        }
    }
}
