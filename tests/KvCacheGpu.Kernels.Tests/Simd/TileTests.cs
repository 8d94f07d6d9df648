using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>Chunks are worked on in tiles of queries, whose size depends on how long prompts may be.</summary>
public class TileTests
{
    public static TheoryData<SimdLevel, PageFormat, PageFormat, KvAttentionPrecision> Pairs => new()
    {
        { SimdLevel.Vector512, PageFormat.F16, PageFormat.F16, KvAttentionPrecision.Exact },
        { SimdLevel.Vector512, PageFormat.I8, PageFormat.I8, KvAttentionPrecision.Exact },
        { SimdLevel.Vector512, PageFormat.T4, PageFormat.V4, KvAttentionPrecision.Fast },
        { SimdLevel.Vector256, PageFormat.T3, PageFormat.V3, KvAttentionPrecision.Exact },
        { SimdLevel.Scalar, PageFormat.Q4, PageFormat.Q4, KvAttentionPrecision.Exact },
    };

    [Theory]
    [MemberData(nameof(Pairs))]
    public void Results_do_not_depend_on_the_size_of_tiles(SimdLevel level, PageFormat key, PageFormat value, KvAttentionPrecision precision)
    {
        (Attention few, long fewBytes) = Run(capacity: 40);
        (Attention many, long manyBytes) = Run(capacity: 256);
        Assert.True(manyBytes > 2 * fewBytes, $"{manyBytes} bytes of scratch where prompts may be long, {fewBytes} where not");
        Assert.Equal(few.Output, many.Output);
        Assert.Equal(few.LogSumExp, many.LogSumExp);

        (Attention Attention, long ScratchBytes) Run(int capacity)
        {
            // 71 tokens of 3 queries: a tile of 128, and one that is not full.
            var geometry = new KvGeometry(1, 3, 1, 32, pageTokens: 16);
            KernelShape shape = Shapes.Mixed(geometry, PageFormat.F16, key, value, 1, capacity) with { Precision = precision };
            using var harness = new TierHarness((s, bytes) => new SimdTier(s, bytes, level, threads: 1), shape, 80, maxTokens: 200);
            HarnessSequence sequence = harness.Add(new SequenceData(geometry, 350, seed: 4));
            harness.Fill(sequence, 200);
            harness.Fill(sequence, 79);
            harness.Begin((sequence, 71));
            harness.Append(0);
            Attention got = harness.Attend(0);
            Expect.MatchesOracle(harness, 0, harness.Queries(0), got, sequence);
            return (got, harness.ScratchBytes);
        }
    }
}
