using KvCacheGpu.TestKit;
using KvCacheGpu.Tests.Snapshots;

namespace KvCacheGpu.Tests;

/// <summary>A device that fails at any one operation leaves tokens, bytes and free pages as they were; the same call then succeeds.</summary>
public sealed class StepFaultTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;
    private int _left = -1;

    public static IEnumerable<object[]> Calls { get; } =
        from call in (string[])["seal", "shared tail", "cut tail", "long", "batch", "fork", "reuse", "demote", "load", "load smaller"]
        from format in (PageFormat[])[PageFormat.I8, PageFormat.F32]
        select (object[])[call, format];

    [Theory]
    [MemberData(nameof(Calls))]
    public void Every_operation_that_fails_leaves_no_trace(string call, PageFormat format)
    {
        using KvCache cache = Cache(format, G);
        KvSequence first = cache.CreateSequence(), second = cache.CreateSequence();
        first.FeedMany(1, 14);
        second.FeedMany(60, 9);
        SnapshotStore store = LiveCaches.Store();
        cache.Saved(store, "s", first);
        if (call == "load smaller")
        {
            store = LiveCaches.Store();
            using KvCache large = Cache(format, new KvGeometry(2, 4, 2, 8, pageTokens: 24) { Rope = G.Rope });
            large.CreateSequence().FeedMany(1, 47);
            large.Saved(store);
        }

        using KvSequence? sharing = call == "shared tail" ? first.Fork() : null;
        if (call == "cut tail")
        {
            first.Truncate(6);
        }

        KvSequence[] sequences = [first, second];
        string before = State(cache, sequences);

        // A load does the same for page after page.
        int stride = call switch { "load" => 3, "load smaller" => 13, _ => 1 };
        for (int operations = 0; ; operations += stride)
        {
            _left = operations;
            Exception? fault = Record.Exception(() => Do(call, cache, first, second, store));
            bool wasReached = _left < 0;
            _left = -1;
            if (!wasReached)
            {
                Assert.Null(fault);
                Assert.True(operations > (call == "demote" ? 1 : 2), $"{operations} operations");
                return;
            }

            Assert.IsType<DeviceFault>(fault);
            Assert.Equal(before, State(cache, sequences));
        }
    }

    [Fact]
    public void A_prefix_that_finds_no_table_is_let_go()
    {
        using KvCache cache = Cache(PageFormat.I8, G);
        KvSequence first = cache.CreateSequence();
        first.FeedMany(1, 14);
        for (int operations = 0; ; operations++)
        {
            using KvSequence again = cache.CreateSequence();
            _left = operations;
            Exception? fault = Record.Exception(() => _ = again.Reuse([.. Enumerable.Range(1, 14)]));
            bool wasReached = _left < 0;
            _left = -1;
            if (!wasReached)
            {
                Assert.Null(fault);
                Assert.True(operations > 1, $"{operations} operations");
                break;
            }

            Assert.IsType<DeviceFault>(fault);
        }

        first.Dispose();
        Assert.True(cache.CachedBytes > 0);
        Assert.Equal(cache.State.Pool.LiveBytes, cache.CachedBytes);
    }

    private static void Do(string call, KvCache cache, KvSequence first, KvSequence second, SnapshotStore store)
    {
        switch (call)
        {
            case "seal" or "shared tail" or "cut tail":
                first.Feed(30, 31, 32, 33, 34);
                break;
            case "long":
                first.Feed([.. Enumerable.Range(30, 31)]);
                break;
            case "batch":
                using (KvStep step = cache.Begin([first, second], [30, 31, 32, 33, 34, 35, 36, 37], [3, 5]))
                {
                    TestCaches.AppendAll(step, G, [30, 31, 32, 33, 34, 35, 36, 37]);
                    step.Commit();
                }

                break;
            case "fork":
                using (KvSequence fork = first.Fork())
                {
                    fork.Feed(8, 9, 10);
                }

                break;
            case "reuse":
                using (KvSequence again = cache.CreateSequence())
                {
                    Assert.True(again.Reuse([.. Enumerable.Range(1, 14)]) > 0);
                    again.Feed(8, 9, 10);
                }

                break;
            case "demote":
                Assert.True(first.Demote(1, 0, 0, new KvFormats(PageFormat.T2, PageFormat.V2)));
                break;
            default:
                cache.LoadNow(store, "s").Sequences[0].Dispose();
                break;
        }
    }

    private static string State(KvCache cache, KvSequence[] sequences) => string.Join('\n',
    [
        $"{cache.AllocatedBytes} bytes, {cache.GetPageCounts()}, {cache.State.Pool.FreeSlabs} slabs, {cache.CachedBytes} cached",
        .. sequences.Select(sequence => string.Join(' ', [.. sequence.TokenIds.ToArray(), .. sequence.Materialized(1).Keys, .. sequence.Materialized(0).Values])),
    ]);

    private KvCache Cache(PageFormat format, KvGeometry geometry)
    {
        KvCacheOptions config = TestCaches.Config(format);
        (config.PoisonPages, config.PrefixReuse, config.Policy) = (true, true, new H2oPolicy());
        config.DemotionFormats = [new KvFormats(PageFormat.T2, PageFormat.V2)];
        var cache = new KvCache(geometry, config, (shape, bytes, seen) => new HookedTier(new ReferenceTier(shape, bytes, seen), operation =>
        {
            // The tables lie in host memory; what gives memory back cannot fail.
            if (operation is not ("tables" or "write" or "close leaf" or "disposed") && _left >= 0 && _left-- == 0)
            {
                throw new DeviceFault(operation);
            }
        }));

        // Fresh pages are filled, so that taking one is an operation; giving one back is none, and cannot fail.
        cache.State.Pool.Freed = null;
        return cache;
    }

    private sealed class DeviceFault(string operation) : Exception($"the device failed at {operation}");
}
