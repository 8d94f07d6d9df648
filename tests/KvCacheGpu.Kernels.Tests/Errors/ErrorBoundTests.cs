using KvCacheGpu.TestKit;
using Xunit.Abstractions;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>Bounds of the error that each format causes in softmax and output, and how formats compare.</summary>
public sealed class ErrorBoundTests(ITestOutputHelper output)
{
    public static TheoryData<string, KeyKind, double> AbsoluteBounds => new()
    {
        { "I8", KeyKind.Plain, 1e-4 },
        { "I8", KeyKind.Outliers, 2.5e-4 },
        { "T4", KeyKind.Plain, 0.013 },
        { "T4", KeyKind.Outliers, 0.015 },
        { "T3", KeyKind.Plain, 0.047 },
        { "T3", KeyKind.Outliers, 0.055 },
        { "T2", KeyKind.Plain, 0.19 },
        { "T2", KeyKind.Outliers, 0.20 },
    };

    [Theory]
    [MemberData(nameof(AbsoluteBounds))]
    public void Encoded_keys_move_the_softmax_by_no_more_than_their_bound(string name, KeyKind kind, double bound)
    {
        double divergence = KeyEncoding.All.Single(e => e.Name == name).Divergence(kind);
        output.WriteLine($"{divergence:g3} nats, bound {bound:g3}");
        Assert.InRange(divergence, bound / 20, bound);
    }

    [Theory]
    [InlineData(KeyKind.Outliers)]
    [InlineData(KeyKind.OutliersOfVaryingScale)]
    public void T4_beats_what_others_do_with_four_bits(KeyKind kind)
    {
        double divergence = KeyEncoding.T4.Divergence(kind);
        AssertBelow(divergence, 0.2, KeyEncoding.Q4, kind);
        AssertBelow(divergence, 0.6, KeyEncoding.RotatedQ4, kind);
        AssertBelow(divergence, 0.45, KeyEncoding.LloydMax4, kind);
        AssertBelow(divergence, 1, KeyEncoding.Kivi4, kind);
    }

    [Theory]
    [InlineData(KeyKind.Plain)]
    [InlineData(KeyKind.Outliers)]
    [InlineData(KeyKind.OutliersOfVaryingScale)]
    public void T2_beats_KIVI_2_and_each_bit_helps(KeyKind kind)
    {
        AssertBelow(KeyEncoding.T2.Divergence(kind), 1, KeyEncoding.Kivi2, kind);
        AssertBelow(KeyEncoding.T3.Divergence(kind), 0.5, KeyEncoding.T2, kind);
        AssertBelow(KeyEncoding.T4.Divergence(kind), 0.5, KeyEncoding.T3, kind);
        AssertBelow(KeyEncoding.I8.Divergence(kind), 0.1, KeyEncoding.T4, kind);
    }

    [Theory]
    [InlineData(KeyKind.Outliers)]
    [InlineData(KeyKind.OutliersOfVaryingScale)]
    public void Rotated_is_better_than_not_rotated_where_keys_have_outliers(KeyKind kind)
    {
        AssertBelow(KeyEncoding.RotatedQ4.Divergence(kind), 1, KeyEncoding.Q4, kind);
        AssertBelow(KeyEncoding.LloydMax4.Divergence(kind), 1, KeyEncoding.Q4, kind);
        AssertBelow(KeyEncoding.I8.Divergence(kind), 1, KeyEncoding.Q8, kind);
        AssertBelow(KeyEncoding.I8.Divergence(kind), 0.1, KeyEncoding.Fp8, kind);
    }

    [Theory]
    [InlineData(PageFormat.I8, 0.009)]
    [InlineData(PageFormat.V4, 0.115)]
    public void Encoded_values_move_the_output_by_no_more_than_their_bound(PageFormat format, double bound)
    {
        double error = ValueEncoding.All.Single(e => e.Format == format).OutputError();
        output.WriteLine($"{error:g3}, bound {bound:g3}");
        Assert.InRange(error, bound / 20, bound);
    }

    [Theory]
    [InlineData(PageFormat.I8)]
    [InlineData(PageFormat.T4)]
    [InlineData(PageFormat.T3)]
    [InlineData(PageFormat.T2)]
    public void The_oracle_costs_the_softmax_what_the_tier_does(PageFormat format)
    {
        ErrorCase data = ErrorCase.Of(KeyKind.Outliers);
        double expected = data.Divergence(PageCodec.ThroughOracle(format, data.Keys));
        double got = KeyEncoding.All.Single(e => e.Name == format.ToString()).Divergence(KeyKind.Outliers);
        Assert.InRange(got, expected * 0.999, expected * 1.001);
    }

    private void AssertBelow(double divergence, double share, KeyEncoding other, KeyKind kind)
    {
        double limit = share * other.Divergence(kind);
        output.WriteLine($"{divergence:g3} nats; {share} of {other.Name}: {limit:g3}");
        Assert.True(divergence < limit, $"{kind}: {divergence:g3} nats, expected less than {share} of {other.Name}'s {limit / share:g3}");
    }
}
