namespace KvCacheGpu.Tests;

/// <summary>Positions and tokens of one moment, whatever other threads' steps make a policy drop meanwhile.</summary>
public class ReadTogetherTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Fact]
    public async Task Each_key_is_that_of_its_position_while_another_sequence_takes_the_room()
    {
        KvCacheOptions config = TestCaches.Config(maxTokens: 512, maxSequences: 2);
        config.Policy = new H2oPolicy { SinkTokens = 4, WindowTokens = 4 };
        config.MemoryBudgetBytes = Budget(config);
        using KvCache cache = TestCaches.Simd(G, config);
        using KvSequence idle = cache.CreateSequence();
        using KvSequence busy = cache.CreateSequence();
        idle.FeedMany(0, 160);
        Task steps = Task.Run(() =>
        {
            for (int i = 0; i < 100;)
            {
                // Refused where the other is being read just now: who is inside a sequence keeps the policy out.
                if (Record.Exception(() => busy.Decode(i)) is not KvOutOfMemoryException)
                {
                    // What it has it keeps: the room comes from the other.
                    busy.Pin(i++, 1);
                }
            }
        });
        int fewest = 160;
        bool isLast;
        do
        {
            isLast = steps.IsCompleted;
            for (int row = 0; row < G.Layers * G.KvHeads; row++)
            {
                fewest = Math.Min(fewest, AssertTogether(idle, row / G.KvHeads, row % G.KvHeads));
            }
        }
        while (!isLast);
        await steps;
        Assert.InRange(fewest, 8, 140);
    }

    [Fact]
    public void All_heads_at_once_and_each_part_alone()
    {
        KvCacheOptions config = TestCaches.Config();
        config.Policy = new WindowPolicy(4, 4);
        using KvCache cache = TestCaches.Simd(G, config);
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(0, 30, chunk: 1);
        int[] positions = new int[30];
        float[] keys = new float[30 * G.KvHeads * G.KeyWidth];
        int tokens = sequence.Materialize(1, positions, keys, []);
        Assert.Equal(sequence.ResidentTokens(1, 0), tokens);
        Assert.Equal(TokenContent.Keys(G, 1, positions.AsSpan(0, tokens)), keys[..(tokens * G.KvHeads * G.KeyWidth)]);
        Assert.Equal(tokens, sequence.Materialize(1, positions, [], []));
        Assert.Throws<ArgumentException>("positions", () => sequence.Materialize(1, 0, new int[tokens - 1], keys, []));
        float[] mass = new float[30];
        int[] others = new int[30];
        Assert.Equal(tokens, sequence.TokenMass(1, 0, new float[G.KeyWidth], mass, others));
        Assert.Equal(positions, others);
    }

    private static int AssertTogether(KvSequence sequence, int layer, int head)
    {
        int[] positions = new int[sequence.Length];
        float[] keys = new float[sequence.Length * G.KeyWidth];
        float[] values = new float[sequence.Length * G.ValueWidth];
        int tokens = sequence.Materialize(layer, head, positions, keys, values);
        float[] expectedKeys = TokenContent.Keys(G, layer, positions.AsSpan(0, tokens));
        float[] expectedValues = TokenContent.Values(G, layer, positions.AsSpan(0, tokens));
        for (int i = 0; i < tokens; i++)
        {
            int from = ((i * G.KvHeads) + head) * G.KeyWidth;
            Assert.True(expectedKeys.AsSpan(from, G.KeyWidth).SequenceEqual(keys.AsSpan(i * G.KeyWidth, G.KeyWidth)), $"key of position {positions[i]}");
            Assert.True(expectedValues.AsSpan(from, G.ValueWidth).SequenceEqual(values.AsSpan(i * G.ValueWidth, G.ValueWidth)), $"value of position {positions[i]}");
        }

        return tokens;
    }

    // Room for about what the first sequence takes alone, so that the second one's tokens cost it some of its own.
    private static long Budget(KvCacheOptions config)
    {
        using KvCache roomy = TestCaches.Simd(G, config);
        using KvSequence one = roomy.CreateSequence();
        using KvSequence two = roomy.CreateSequence();
        one.FeedMany(0, 180);
        return roomy.AllocatedBytes;
    }
}
