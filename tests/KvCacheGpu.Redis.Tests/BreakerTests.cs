namespace KvCacheGpu.Redis.Tests;

/// <summary>When calls are made, and when not.</summary>
public sealed class BreakerTests
{
    private readonly Clock _clock = new();
    private readonly CircuitBreaker _breaker;

    public BreakerTests() => _breaker = new CircuitBreaker(3, TimeSpan.FromSeconds(1), _clock);

    [Fact]
    public void It_opens_after_failures_in_a_row()
    {
        Fail(2);
        Assert.True(_breaker.TryEnter());
        _breaker.Succeed();
        Fail(2);
        Assert.False(_breaker.IsOpen);
        Fail(1);
        Assert.True(_breaker.IsOpen);
        Assert.False(_breaker.TryEnter());
        Assert.False(_breaker.TryEnter());
        Assert.Equal(2, _breaker.Refused);
    }

    [Fact]
    public void After_a_while_one_call_decides()
    {
        Fail(3);
        _clock.Pass(0.999);
        Assert.False(_breaker.TryEnter());
        _clock.Pass(0.001);
        Assert.True(_breaker.TryEnter());
        Assert.False(_breaker.TryEnter());
        _breaker.Fail();
        Assert.True(_breaker.IsOpen);
        Assert.False(_breaker.TryEnter());
        _clock.Pass(1);
        Assert.True(_breaker.TryEnter());
        _breaker.Succeed();
        Assert.False(_breaker.IsOpen);
        Assert.True(_breaker.TryEnter());
        Assert.True(_breaker.TryEnter());
    }

    [Fact]
    public void One_that_was_cancelled_leaves_its_turn_to_the_next()
    {
        Fail(3);
        _clock.Pass(1);
        Assert.True(_breaker.TryEnter());
        _breaker.Leave();
        Assert.True(_breaker.IsOpen);
        Assert.True(_breaker.TryEnter());
        Assert.False(_breaker.TryEnter());
    }

    [Fact]
    public void After_a_success_it_takes_as_many_failures_again()
    {
        Fail(7);
        _clock.Pass(1);
        Assert.True(_breaker.TryEnter());
        _breaker.Succeed();
        Fail(2);
        Assert.False(_breaker.IsOpen);
        Fail(1);
        Assert.True(_breaker.IsOpen);
    }

    // Calls that had begun before it opened end afterwards, too.
    private void Fail(int times)
    {
        for (int i = 0; i < times; i++)
        {
            _breaker.Fail();
        }
    }

    private sealed class Clock : TimeProvider
    {
        private long _now;

        public override long TimestampFrequency => 1000;

        public void Pass(double seconds) => _now += (long)Math.Round(seconds * 1000);

        public override long GetTimestamp() => _now;
    }
}
