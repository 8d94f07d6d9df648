using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>The error of the softmax by an encoding, on keys like those of trained models.</summary>
public abstract partial class PageConformance<TTier>
{
    [Theory]
    [InlineData(KeyKind.Plain, 1e-4)]
    [InlineData(KeyKind.Outliers, 2.5e-4)]
    public void Encoded_keys_move_the_softmax_by_no_more_than_the_formats_bound(KeyKind kind, double bound)
    {
        const int Tokens = 1088;
        var geometry = new KvGeometry(1, 1, 1, 128, 8, pageTokens: 64);
        using var harness = new TierHarness(TTier.Create, Shapes.Encoded(geometry, PageFormat.F32), 40, maxTokens: Tokens);
        var data = new SequenceData(geometry, Tokens, 100, kind);
        HarnessSequence sequence = harness.Add(data);
        harness.Fill(sequence, Tokens);
        double[][] decoded = [.. harness.DecodeRow(sequence, 0, 0)
            .Where(p => sequence.Rows[0, 0][p.PageIndex].PageClass == KernelShape.Sealed).SelectMany(p => p.Page.Keys)];
        double[][] exact = [.. data.Keys[0].Chunk(128).Take(decoded.Length).Select(key => key.Select(x => (double)x).ToArray())];
        Assert.Equal(1024, decoded.Length);
        double[] divergences = [.. data.Queries[0].Chunk(128).Skip(Tokens - 64).Select(query => Divergence(query, exact, decoded))];
        Assert.InRange(divergences.Average(), 0, bound);
    }

    [Fact]
    public void Encoded_values_err_by_less_than_nine_thousandths()
    {
        var geometry = new KvGeometry(1, 1, 1, 8, 128, pageTokens: 64);
        using var harness = new TierHarness(TTier.Create, Shapes.Encoded(geometry, PageFormat.F32), 20);
        var data = new SequenceData(geometry, 256, 101);
        HarnessSequence sequence = harness.Add(data);
        harness.Fill(sequence, 256);
        double[] decoded = [.. harness.DecodeRow(sequence, 0, 0).Take(3).SelectMany(p => p.Page.Values).SelectMany(v => v)];
        double error = decoded.Zip(data.Values[0], (d, x) => (d - x) * (d - x)).Sum();
        double norm = data.Values[0].Take(decoded.Length).Sum(x => (double)x * x);
        Assert.InRange(Math.Sqrt(error / norm), 1e-4, 0.009);
    }

    // KL(exact || decoded) of the softmax of one query, in nats.
    private static double Divergence(float[] query, double[][] exact, double[][] decoded)
    {
        (double[] p, double[] q) = (Softmax(query, exact), Softmax(query, decoded));
        return p.Zip(q, (a, b) => a * Math.Log(a / b)).Sum();
    }

    private static double[] Softmax(float[] query, double[][] keys)
    {
        double[] logits = [.. keys.Select(key => key.Zip(query, (k, q) => k * q).Sum() / Math.Sqrt(query.Length))];
        double largest = logits.Max();
        double total = logits.Sum(l => Math.Exp(l - largest));
        return [.. logits.Select(l => Math.Exp(l - largest) / total)];
    }
}
