using static KvCacheGpu.Sessions.Tests.EngineSamples;

namespace KvCacheGpu.Sessions.Tests;

/// <summary>An engine disposed beside its calls, from inside of one, and sessions that nobody but the engine holds.</summary>
public sealed class EngineLifetimeTests
{
    [Fact]
    public void It_waits_for_the_call_that_is_inside()
    {
        using var inside = new ManualResetEventSlim();
        using var leave = new ManualResetEventSlim();
        var policy = new Calling();
        UltraAdaptiveKvCacheEngine engine = With(policy);
        policy.Call = () =>
        {
            inside.Set();
            leave.Wait();
        };
        Exception? put = null, disposed = null;
        var putting = new Thread(() => put = Record.Exception(() => engine.Put(0, Key(0), Value(0), "a")));
        putting.Start();
        inside.Wait();
        var disposing = new Thread(() => disposed = Record.Exception(engine.Dispose));
        disposing.Start();
        SpinWait.SpinUntil(() => disposing.ThreadState is ThreadState.WaitSleepJoin or ThreadState.Stopped);
        leave.Set();
        putting.Join();
        disposing.Join();
        Assert.Equal((null, null), (put, disposed));
        Assert.Equal(0, engine.Cache.AllocatedBytes);
        Assert.Throws<ObjectDisposedException>(() => engine.Put(9, Key(9), Value(9), "a"));
        engine.Dispose();
    }

    [Theory]
    [InlineData("dispose")]
    [InlineData("clear all")]
    [InlineData("clear one")]
    public void From_inside_of_a_call_it_is_refused_and_no_session_is_lost(string what)
    {
        var policy = new Calling();
        using UltraAdaptiveKvCacheEngine engine = With(policy);
        engine.PutMany(0, 5, "a");
        engine.PutMany(0, 5, "b");
        Exception? refused = null;
        policy.Call = () => refused ??= Record.Exception(() =>
        {
            switch (what)
            {
                case "dispose":
                    engine.Dispose();
                    break;
                case "clear all":
                    engine.Clear();
                    break;
                default:
                    engine.Clear("a");
                    break;
            }
        });
        engine.PutMany(5, 1, "a");
        Assert.Equal("E006", Assert.IsType<KvConcurrencyException>(refused).Code);
        engine.PutMany(6, 1, "a");
        engine.PutMany(5, 1, "b");
        Assert.Equal(2, engine.Sessions.Count);
        Assert.NotNull(engine.Get(6, "a"));
        Assert.NotNull(engine.Get(0, "b"));
    }

    [Fact]
    public void From_inside_of_a_step_of_the_hosts_own_it_is_refused_too()
    {
        var policy = new Calling();
        using UltraAdaptiveKvCacheEngine engine = With(policy);
        engine.PutMany(0, 5, "a");
        Exception? refused = null;
        using KvSequence own = engine.Cache.CreateSequence();
        policy.Call = () => refused ??= Record.Exception(engine.Dispose);
        using (KvStep step = own.Begin([1]))
        {
            step.Append(0, Key(1), Value(1));
            step.Commit();
        }

        Assert.Equal("E006", Assert.IsType<KvConcurrencyException>(refused).Code);
        engine.PutMany(5, 1, "a");
        Assert.NotNull(engine.Get(0, "a"));
    }

    [Fact]
    public void No_session_is_ever_forgotten()
    {
        using UltraAdaptiveKvCacheEngine engine = Engine();
        engine.PutMany(0, 20, "a");
        for (int i = 0; i < 5; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
            engine.PutMany(i, 1, "b");
        }

        Assert.True(engine.Clear("b"));
        GC.Collect();
        GC.WaitForPendingFinalizers();
        engine.PutMany(20, 1, "a");
        Assert.Equal(0, engine.Cache.ForgottenSequences);
        Assert.Equal(21, engine.GetStats().Tokens);
        Assert.NotNull(engine.Get(0, "a"));
    }

    private static UltraAdaptiveKvCacheEngine With(KvPolicy policy) => Engine(config => config.ConfigureOptions += options => options.Policy = policy);

    /// <summary>A policy that keeps all, and calls out from inside of every commit.</summary>
    private sealed class Calling : KvPolicy
    {
        public Action Call { get; set; } = () => { };

        public override bool ActsUnasked => true;

        public override void Plan(in KvPages pages, long bytesToFree, Span<KvTransition> plan, object? state)
        {
            plan.Clear();
            Call();
        }

        public override int MostKeptPages(int pageTokens) => int.MaxValue;
    }
}
