using Xunit.Abstractions;

namespace KvCacheGpu.Tests;

/// <summary>
/// Every public method of cache, sequence, step, engine and store beside every other on another thread, Dispose among them, while freed memory is
/// poisoned. Bounded by counts; the environment variable KVCACHE_SOAK multiplies these.
/// </summary>
public sealed class PublicCallTests(ITestOutputHelper output) : IDisposable
{
    private const int Rounds = 2;
    private const int Repeats = 2;

    // Of a call whose objects end meanwhile: until they have, at most so often.
    private const int RepeatsBesideAnEnd = 40;
    private const int MostSpins = 2000;
    private const int MostSpinsBeforeAnEnd = 20_000;
    private const int PairsTogether = 6;

    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-calls-").FullName;

    private static Dictionary<string, CallSetting> Settings { get; } = new[]
    {
        new CallSetting("prefixes with a tier below, no loss", IsEngines: false, IsExact: true, 100, config =>
        {
            if (config.PrefixReuse)
            {
                (config.Tiers, config.ModelFingerprint) = ([new MapTier()], "toy");
            }
        }),
        new CallSetting("the engine's own, a policy, demotions", IsEngines: true, IsExact: false, 150, config =>
        {
            config.DemotionFormats = [new KvFormats(PageFormat.I8, PageFormat.I8)];
            config.Policy = new WindowPolicy(4, 12);
        }),
    }.ToDictionary(setting => setting.Name);

    public static TheoryData<string> SettingNames => [.. Settings.Keys];

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void No_public_method_is_missing()
    {
        string[] methods = [.. PublicCall.Methods.Order(StringComparer.Ordinal)];
        string[] called = [.. PublicCalls.All.Select(call => call.Method).Order(StringComparer.Ordinal)];
        Assert.Equal(methods, called);
    }

    [Theory]
    [MemberData(nameof(SettingNames))]
    public void Each_call_beside_each_other_leaves_everyone_what_is_theirs(string name)
    {
        CallSetting setting = Settings[name] with { File = SavedFile() };
        using var freed = new FreedMemory();
        var random = new Random(20_260_301);
        IReadOnlyList<PublicCall> calls = PublicCalls.All;
        var wrong = new List<string>();
        int rounds = 0;
        for (int again = 0; again < Rounds * Soak.Factor; again++)
        {
            foreach ((PublicCall one, PublicCall other)[] together in Together())
            {
                rounds += together.Length;
                if (Record.Exception(() => Round(setting, together, random)) is { } error)
                {
                    wrong.Add($"{Names(together)}: {error}");
                }
            }
        }

        output.WriteLine($"{rounds} rounds of {calls.Count} calls, {freed.Taken} blocks freed");
        Assert.True(wrong.Count == 0, $"{wrong.Count} of {rounds} rounds went wrong:\n{string.Join("\n", wrong.Take(12))}");
        Assert.Equal(0, freed.Spoilt);
        Assert.True(freed.Taken > rounds);
    }

    // Every pair once; a few that end nothing one after the other on the same objects, since making these takes the most time.
    private static IEnumerable<(PublicCall One, PublicCall Other)[]> Together()
    {
        IReadOnlyList<PublicCall> calls = PublicCalls.All;
        (PublicCall One, PublicCall Other)[] pairs = [.. calls.SelectMany((one, i) => calls.Skip(i).Select(other => (one, other)))];
        (PublicCall One, PublicCall Other)[] lasting = [.. pairs.Where(pair => !pair.One.Ends && !pair.Other.Ends)];
        return lasting.Chunk(PairsTogether).Concat(pairs.Except(lasting).Select(pair => new[] { pair }));
    }

    private void Round(CallSetting setting, (PublicCall One, PublicCall Other)[] pairs, Random random)
    {
        using var shared = new SharedObjects(setting, Path.Combine(_folder, "engine"));
        foreach ((PublicCall one, PublicCall other) in pairs)
        {
            var errors = new Exception?[2];
            using var start = new Barrier(2);
            bool isOver = false;
            int spins = random.Next(one.Ends || other.Ends ? MostSpinsBeforeAnEnd : MostSpins);
            Exception? Repeat(PublicCall call, PublicCall beside)
            {
                start.SignalAndWait();
                bool waits = call.Ends || (!beside.Ends && call == one);
                Thread.SpinWait(waits ? spins : 0);
                Exception? error = null;
                int repeats = beside.Ends && !call.Ends ? RepeatsBesideAnEnd : Repeats;
                for (int i = 0; i < repeats && error is null && (i < Repeats || !Volatile.Read(ref isOver)); i++)
                {
                    error = call.RunOnce(shared);
                }

                Volatile.Write(ref isOver, isOver || call.Ends);
                return error;
            }

            var thread = new Thread(() => errors[1] = Repeat(other, one));
            thread.Start();
            errors[0] = Repeat(one, other);
            thread.Join();
            Assert.Equal([null, null], errors);
        }

        shared.CheckAndFree();
    }

    private static string Names((PublicCall One, PublicCall Other)[] pairs) => string.Join(", then ", pairs.Select(pair => $"{pair.One} beside {pair.Other}"));

    private string SavedFile()
    {
        string path = Path.Combine(_folder, "saved");
        using KvCache cache = TestCaches.Simd(SharedObjects.G, TestCaches.Config());
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(SharedObjects.FirstId, 9);
        SnapshotSaving.Save(cache.State, new SnapshotStore(path), "file", [sequence.State], null, default);
        return Directory.GetFiles(path, "*CURRENT*").Single();
    }
}
