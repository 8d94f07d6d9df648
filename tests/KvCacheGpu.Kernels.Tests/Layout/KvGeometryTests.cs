namespace KvCacheGpu.Kernels.Tests;

/// <summary>A model's own scale and soft cap: their defaults, what is refused, and the logits that follow.</summary>
public sealed class KvGeometryTests
{
    private static readonly KvGeometry G = new(1, 4, 2, 128);

    [Fact]
    public void The_scale_is_that_of_the_key_width_unless_the_model_has_its_own()
    {
        Assert.Equal(1 / MathF.Sqrt(128), G.AttentionScale);
        Assert.Null(G.LogitSoftCap);
        Assert.Equal(G, G with { AttentionScale = 1 / MathF.Sqrt(128) });
        Assert.NotEqual(G, G with { AttentionScale = 0.1f });
        Assert.NotEqual(G, G with { LogitSoftCap = 50 });
        Assert.Equal(G, (G with { LogitSoftCap = 50 }) with { LogitSoftCap = null });
    }

    [Theory]
    [InlineData(0f)]
    [InlineData(-0.1f)]
    [InlineData(9e-7f)]
    [InlineData(2e6f)]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    public void A_scale_that_is_no_number_of_its_range_is_refused(float scale)
    {
        Assert.Throws<ArgumentOutOfRangeException>(nameof(KvGeometry.AttentionScale), () => G with { AttentionScale = scale });
    }

    [Theory]
    [InlineData(0f)]
    [InlineData(-50f)]
    [InlineData(1e-31f)]
    [InlineData(2e30f)]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    public void A_cap_that_is_no_number_of_its_range_is_refused(float cap)
    {
        Assert.Throws<ArgumentOutOfRangeException>(nameof(KvGeometry.LogitSoftCap), () => G with { LogitSoftCap = cap });
    }

    [Fact]
    public void A_logit_is_the_product_scaled_and_then_capped()
    {
        KvGeometry gemma = G with { AttentionScale = 0.25f, LogitSoftCap = 50 };
        Assert.Equal(5, (G with { AttentionScale = 0.25f }).LogitOf(20));
        Assert.Equal(50 * Math.Tanh(0.1), gemma.LogitOf(20), 1e-12);
        Assert.Equal(-50, gemma.LogitOf(-1e9), 1e-12);
    }
}
