namespace KvCacheGpu.Evaluation.Tests;

public sealed class TokenScoreTests
{
    [Fact]
    public void Against_itself_nothing_is_lost()
    {
        TokenScore score = TokenScore.Of([1f, 3f, 2f], [1f, 3f, 2f], 1);
        Assert.True(score.Right && score.Agrees);
        Assert.Equal((0.0, score.FullNll), (score.Kl, score.Nll));
        Assert.Equal(Math.Log(Math.Exp(-2) + 1 + Math.Exp(-1)), score.Nll, 12);
    }

    [Fact]
    public void Divergence_is_that_of_the_full_distribution_from_this_one()
    {
        // Full: 3/4, 1/4. This one: 1/4, 3/4. KL = 3/4 ln 3 - 1/4 ln 3.
        float three = MathF.Log(3);
        TokenScore score = TokenScore.Of([0f, three], [three, 0f], 0);
        Assert.Equal(Math.Log(3) / 2, score.Kl, 6);
        Assert.Equal(Math.Log(4), score.Nll, 6);
        Assert.Equal(Math.Log(4.0 / 3), score.FullNll, 6);
        Assert.False(score.Right || score.Agrees);

        // It is not symmetric: full 1/2, 1/2 against 3/4, 1/4.
        Assert.Equal((0.5 * Math.Log(2.0 / 3)) + (0.5 * Math.Log(2)), TokenScore.Of([three, 0f], [0f, 0f], 0).Kl, 6);
        Assert.Equal((0.75 * Math.Log(1.5)) + (0.25 * Math.Log(0.5)), TokenScore.Of([0f, 0f], [three, 0f], 0).Kl, 6);
    }

    [Fact]
    public void Large_logits_do_not_overflow()
    {
        TokenScore score = TokenScore.Of([1e4f, 0f], [0f, 1e4f], 1);
        Assert.Equal((1e4, 0.0, 1e4), (score.Nll, score.FullNll, score.Kl));
    }

    [Fact]
    public void Other_vocabularies_are_refused() => Assert.Throws<ArgumentException>(() => TokenScore.Of([1f, 2f], [1f], 0));
}
