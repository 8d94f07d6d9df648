using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Pages in host memory, scored where they lie.</summary>
public abstract partial class PageConformance<TTier>
{
    public static TheoryData<PageFormat, PageFormat, int, TensorType> DigestCases => new()
    {
        { PageFormat.F16, PageFormat.F16, 1, TensorType.F32 },
        { PageFormat.I8, PageFormat.V4, 3, TensorType.BF16 },
        { PageFormat.T4, PageFormat.V4, 1, TensorType.F16 },
        { PageFormat.T2, PageFormat.V2, 40, TensorType.F32 },
    };

    /// <summary>Two sequences, whose pages lie in two blocks: each page is scored by its own sequence's queries, of which those of chunks are looked at evenly apart.</summary>
    [Theory]
    [MemberData(nameof(DigestCases))]
    public void A_page_in_host_memory_is_scored_by_its_digest_where_the_device_can(PageFormat key, PageFormat value, int tokens, TensorType type)
    {
        const int pages = 5;
        var geometry = new KvGeometry(layers: 2, queryHeads: 6, kvHeads: 2, keyWidth: 24, pageTokens: 8);
        KernelShape shape = Shapes.Mixed(geometry, PageFormat.F32, key, value, capacity: 32);
        using var harness = new TierHarness(TTier.Create, shape, 200);
        var exponents = new byte[geometry.Layers * geometry.KvHeads * geometry.KeyWidth];
        for (int i = 0; i < exponents.Length; i++)
        {
            exponents[i] = (byte)(i % 4);
        }

        var scales = new KvKeyScales(geometry, exponents);
        harness.SetKeyScales(0, scales);
        HarnessSequence[] sequences = [.. Enumerable.Range(0, 2).Select(i => harness.Add(new SequenceData(geometry, (pages * 8) + tokens, seed: 5 + i)))];
        Array.ForEach(sequences, sequence => harness.Fill(sequence, pages * 8));
        using KernelBatch batch = harness.Tier.CreateBatch(2, 2 * tokens);
        batch.Begin([.. sequences.Select((s, i) => new RaggedSequence(s.Slot, i * tokens, tokens, (pages * 8) + tokens))]);
        if (batch.Digests is not { } digests)
        {
            Assert.False(harness.Tier.Accelerator is not null && harness.Tier.Accelerator.AcceleratorType != ILGPU.Runtime.AcceleratorType.OpenCL);
            return;
        }

        PageTransfers transfers = harness.Tier.Transfers;
        PageLayout layout = shape.Classes[KernelShape.Sealed];
        HostBlock[] blocks = [transfers.Allocate(2 * pages * layout.Units), transfers.Allocate(2 * pages * layout.Units)];
        float[] queries = [.. sequences.SelectMany(s => s.Data.Queries[1].AsSpan(pages * 8 * 6 * 24, tokens * 6 * 24).ToArray())];
        byte[] given = TypedNumbers.Bytes(queries, type);
        float[] seen = TypedNumbers.Numbers(given, type);
        var reads = new List<DigestRead>();
        var expected = new List<double>();
        for (int at = 0; at < 4; at++)
        {
            (int sequence, int head) = (at / 2, at % 2);
            PageEntry[] entries = [.. sequences[sequence].Rows[1, head].Where(entry => entry.PageClass == KernelShape.Sealed)];
            Assert.True(entries.Length > 1);
            for (int page = 0; page < entries.Length; page++)
            {
                PageEntry entry = entries[page];
                int unit = ((page * 2) + head) * layout.Units;
                transfers.Unload([new PageTransfer(entry.Slot, blocks[sequence], unit, layout.Units)]);
                reads.Add(new DigestRead(blocks[sequence], unit, entry.PageClass, sequence, head));
                int all = tokens * 3;
                IEnumerable<float[]> looked = Enumerable.Range(0, Math.Min(all, DigestScorer.MostQueries))
                    .Select(i => DigestScorer.QueryAt(i, Math.Min(all, DigestScorer.MostQueries), all))
                    .Select(i => seen.AsSpan((((((sequence * tokens) + (i / 3)) * 6) + (head * 3) + (i % 3)) * 24), 24).ToArray());
                expected.Add(DigestOracle.Score(harness.Decode(entry.Slot, entry.PageClass, 8, harness.Tier.KeyRow(0, 2 + head)), looked, shape.RotationSeed, scales.Of(2 + head)));
            }
        }

        float[] scores = new float[reads.Count];
        digests.Score(1, TypedNumbers.HostTensor(given, type), reads.ToArray(), scores);
        double factor = scores[0] / expected[0];
        double most = expected.Max(Math.Abs);
        Assert.True(factor > 0);
        Assert.All(scores.Zip(expected), pair => Assert.InRange(pair.First / factor, pair.Second - (1e-3 * most), pair.Second + (1e-3 * most)));
        Array.ForEach(blocks, block => block.Dispose());
    }
}
