namespace KvCacheGpu.Tests;

/// <content>What an engine holds beside what it should hold.</content>
internal sealed partial class RandomEngineOperations
{
    private void Check(KvSessionKey key, bool everyToken)
    {
        KvEngineStats stats = _engine.GetStats();
        Assert.Equal((_sessions.Count, _sessions.Values.Sum(held => (long)held.Count)), (stats.Sessions, stats.Tokens));
        Assert.True(_engine.Cache.AllocatedBytes <= _engine.Cache.BudgetBytes, "over budget");
        if (!_sessions.TryGetValue(key, out Dictionary<int, int>? held))
        {
            Assert.Null(_engine.Get(_random.Next(Positions), key));
            Assert.DoesNotContain(key, _engine.Sessions);
            return;
        }

        int missing = _random.Next(2 * Positions);
        Assert.True(held.ContainsKey(missing) || _engine.Get(missing, key) is null, $"position {missing} was never put");
        if (everyToken)
        {
            CheckTokens(_engine, key, held);
        }
    }

    private void CheckTokens(UltraAdaptiveKvCacheEngine engine, KvSessionKey key, Dictionary<int, int> held)
    {
        foreach ((int position, int seed) in held)
        {
            if (engine.Get(position, key) is { } found)
            {
                Compare(Content(TokenContent.Keys, [seed]), found.Key);
                Compare(Content(TokenContent.Values, [seed]), found.Value);
            }
            else
            {
                Assert.False(_isExact, $"position {position} is gone");
            }
        }
    }

    private void Compare(float[] expected, float[] actual)
    {
        for (int at = 0; at < expected.Length; at += G.KeyWidth)
        {
            double norm = Math.Sqrt(expected.Skip(at).Take(G.KeyWidth).Sum(x => (double)x * x));
            double error = Math.Sqrt(Enumerable.Range(at, G.KeyWidth).Sum(i => Math.Pow(expected[i] - actual[i], 2)));
            Assert.True(error <= (_isExact ? 0 : 0.2 * (norm + 1)), $"a vector is off by {error} of {norm}");
        }
    }

    // Softmax in double precision over the tokens of the seeds. Only where all of them are there, as they were put.
    private void AssertAttention(int querySeed, int[] seeds, float[] output, int token, int tokens)
    {
        Assert.All(output, number => Assert.InRange(number, -2.2f, 2.2f));
        if (!_isExact)
        {
            return;
        }

        (int layer, int head) = (_random.Next(G.Layers), _random.Next(G.QueryHeads));
        float[] query = [.. TokenContent.Queries(G, layer, [querySeed]).Skip(head * G.KeyWidth).Take(G.KeyWidth)];
        int from = head / G.GroupSize * G.KeyWidth;
        float[][] keys = [.. seeds.Select(seed => TokenContent.Keys(G, layer, [seed])[from..(from + G.KeyWidth)])];
        float[][] values = [.. seeds.Select(seed => TokenContent.Values(G, layer, [seed])[from..(from + G.ValueWidth)])];
        double[] logits = [.. keys.Select(key => key.Zip(query, (a, b) => (double)a * b).Sum() / Math.Sqrt(G.KeyWidth))];
        double[] weights = [.. logits.Select(logit => Math.Exp(logit - logits.Max()))];
        int at = ((((layer * tokens) + token) * G.QueryHeads) + head) * G.ValueWidth;
        for (int i = 0; i < G.ValueWidth; i++)
        {
            double expected = weights.Select((weight, t) => weight * values[t][i]).Sum() / weights.Sum();
            Assert.Equal(expected, output[at + i], 1e-4);
        }
    }
}
