using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Pages in host memory, scored where they lie.</summary>
public abstract partial class PageConformance<TTier>
{
    public static TheoryData<PageFormat, PageFormat, int, TensorType, int, int> SketchCases => new()
    {
        { PageFormat.F16, PageFormat.F16, 1, TensorType.F32, 24, 8 },
        { PageFormat.I8, PageFormat.V4, 3, TensorType.BF16, 40, 20 },
        { PageFormat.T4, PageFormat.V4, 1, TensorType.F16, 128, 64 },
        { PageFormat.T2, PageFormat.V2, 40, TensorType.F32, 48, 4 },
    };

    /// <summary>Two sequences, whose pages lie in two blocks: each page is scored by its own sequence's queries, of which those of chunks are looked at evenly apart.</summary>
    [Theory]
    [MemberData(nameof(SketchCases))]
    public void A_page_in_host_memory_is_scored_by_the_sketch_of_its_keys(PageFormat key, PageFormat value, int tokens, TensorType type, int width, int pageTokens)
    {
        const int pages = 5;
        var geometry = new KvGeometry(layers: 2, queryHeads: 6, kvHeads: 2, keyWidth: width, pageTokens: pageTokens);
        KernelShape shape = Shapes.Mixed(geometry, PageFormat.F32, key, value, capacity: 32);
        using var harness = new TierHarness(TTier.Create, shape, 300);
        var exponents = new byte[geometry.Layers * geometry.KvHeads * geometry.KeyWidth];
        for (int i = 0; i < exponents.Length; i++)
        {
            exponents[i] = (byte)(i % 4);
        }

        var scales = new KvKeyScales(geometry, exponents);
        harness.SetKeyScales(0, scales);
        HarnessSequence[] sequences = [.. Enumerable.Range(0, 2).Select(i => harness.Add(new SequenceData(geometry, (pages * pageTokens) + tokens, seed: 5 + i)))];
        Array.ForEach(sequences, sequence => harness.Fill(sequence, pages * pageTokens));
        using KernelBatch batch = harness.Tier.CreateBatch(2, 2 * tokens);
        batch.Begin([.. sequences.Select((s, i) => new RaggedSequence(s.Slot, i * tokens, tokens, (pages * pageTokens) + tokens))]);
        bool isInHost = harness.Tier.Accelerator is null || harness.Tier.Accelerator.AcceleratorType == ILGPU.Runtime.AcceleratorType.OpenCL;
        Assert.Equal(isInHost, batch.Sketches is null);
        PageTransfers transfers = harness.Tier.Transfers;
        KeySketch sketches = transfers.Sketches;
        HostBlock[] blocks = [transfers.Allocate(2 * pages * sketches.Units), transfers.Allocate(2 * pages * sketches.Units)];
        float[] queries = [.. sequences.SelectMany(s => s.Data.Queries[1].AsSpan(pages * pageTokens * 6 * width, tokens * 6 * width).ToArray())];
        byte[] given = TypedNumbers.Bytes(queries, type);
        float[] seen = TypedNumbers.Numbers(given, type);
        var reads = new List<SketchRead>();
        var made = new List<PageSketch>();
        var expected = new List<double>();
        var looked = new List<float[][]>();
        for (int at = 0; at < 4; at++)
        {
            (int sequence, int head) = (at / 2, at % 2);
            PageEntry[] entries = [.. sequences[sequence].Rows[1, head].Where(entry => entry.PageClass == KernelShape.Sealed)];
            Assert.True(entries.Length > 1);
            int all = tokens * 3;
            int count = Math.Min(all, SketchScorer.MostQueries);
            float[][] own = [.. Enumerable.Range(0, count).Select(i => SketchScorer.QueryAt(i, count, all))
                .Select(i => seen.AsSpan((((((sequence * tokens) + (i / 3)) * 6) + (head * 3) + (i % 3)) * width), width).ToArray())];
            for (int page = 0; page < entries.Length; page++)
            {
                PageEntry entry = entries[page];
                int unit = ((page * 2) + head) * sketches.Units;
                int row = harness.Tier.KeyRow(0, 2 + head);
                made.Add(new PageSketch(entry.Slot, entry.PageClass, row, blocks[sequence], unit));
                reads.Add(new SketchRead(blocks[sequence], unit, sequence, head));
                looked.Add(own);
                expected.Add(new SketchOracle(harness.Decode(entry.Slot, entry.PageClass, pageTokens, row).Keys, shape.RotationSeed).Score(own));
            }
        }

        transfers.Sketch(made.ToArray());
        harness.Tier.Synchronize();
        float[] rotation = Rotation.Signs(width, shape.RotationSeed);
        float[] scores = [.. reads.Zip(looked, (read, own) => own.Max(query =>
        {
            float[] turned = [.. query];
            Rotation.Apply(turned, rotation);
            return sketches.Score(read.Block.Words(read.Unit, sketches.Units), turned);
        }))];
        Same(expected, scores);
        if (batch.Sketches is { } scorer)
        {
            Array.Clear(scores);
            scorer.Score(1, TypedNumbers.HostTensor(given, type), reads.ToArray(), scores);
            Same(expected, scores);
        }

        Array.ForEach(blocks, block => block.Dispose());
    }

    private static void Same(List<double> expected, float[] scores)
    {
        double factor = scores[0] / expected[0];
        double most = expected.Max(Math.Abs);
        Assert.True(factor > 0);
        Assert.All(scores.Zip(expected), pair => Assert.InRange(pair.First / factor, pair.Second - (1e-3 * most), pair.Second + (1e-3 * most)));
    }
}
