using System.Diagnostics.Metrics;
using System.Text.RegularExpressions;

namespace KvCacheGpu.Tests;

/// <summary>docs/diagnostics.md lists every instrument, with its kind, unit and tags, and every event.</summary>
public sealed partial class DiagnosticsGuideTests
{
    [Fact]
    public void The_table_is_what_the_meter_publishes()
    {
        using var meter = new MeterReader("guide");
        using KvCache cache = TestCaches.Simd(TestCaches.Tiny, TestCaches.Config());
        string[] published = [.. meter.Instruments.Select(one => $"{one.Name} | {Kind(one)} | {one.Unit}").Order(StringComparer.Ordinal)];
        string[] listed = [.. Rows().Select(row => $"{row.Name} | {row.Kind} | {row.Unit}").Order(StringComparer.Ordinal)];
        Assert.Equal(listed, published);
        Assert.All(meter.Instruments, one => Assert.EndsWith(".", one.Description, StringComparison.Ordinal));
        Assert.All(meter.Instruments, one => Assert.Equal(typeof(KvCache).Assembly.GetName().Version!.ToString(3), one.Meter.Version));
    }

    [Fact]
    public async Task The_table_names_the_tags_that_are_told()
    {
        string folder = Directory.CreateTempSubdirectory("kvcache-guide-").FullName;
        KvCacheOptions options = OffloadCaches.SmallOptions("lru", new KvFormats(PageFormat.F16, PageFormat.F16));
        var tier = new MapTier("guide-tier");
        (options.Name, options.MeasureTenants, options.PrefixReuse, options.ModelFingerprint, options.Tiers) = ("guide-tags", true, true, "toy", [tier]);
        var told = new Dictionary<string, HashSet<string>>();
        using (KvCache cache = TestCaches.Simd(OffloadCaches.Flat, options))
        using (var meter = new MeterReader("guide-tags"))
        using (var tiers = new MeterReader("guide-tier"))
        {
            KvSequence sequence = cache.CreateSequence(new KvSequenceOptions { Tenant = "acme" });
            sequence.FeedMany(0, 240, chunk: 8);
            sequence.Decode(1);
            await cache.SaveAsync(new SnapshotStore(folder), "a");
            await Assert.ThrowsAsync<KvSnapshotNotFoundException>(() => cache.LoadAsync(new SnapshotStore(folder), "none"));
            using KvSwapped swapped = await cache.SwapOutAsync([sequence]);
            await cache.SwapInAsync(swapped);
            await Assert.ThrowsAsync<ObjectDisposedException>(() => cache.SwapInAsync(swapped));
            foreach (MeterReader.Reading one in meter.Read().Concat(tiers.Read()))
            {
                told.TryAdd(one.Instrument, []);
                told[one.Instrument].UnionWith(one.Tags.Select(tag => tag.Key).Where(tag => tag != "kvcache.name"));
            }
        }

        Directory.Delete(folder, recursive: true);
        string[] seen = [.. told.Select(one => $"{one.Key}: {string.Join(' ', one.Value.Order(StringComparer.Ordinal))}").Order(StringComparer.Ordinal)];
        string[] listed = [.. Rows().Select(row => $"{row.Name}: {string.Join(' ', row.Tags.Order(StringComparer.Ordinal))}").Order(StringComparer.Ordinal)];
        Assert.Equal(listed, seen);
    }

    [Fact]
    public void The_events_are_listed()
    {
        string guide = Guide();
        System.Diagnostics.Tracing.EventSource source = CacheEvents.Log;
        string manifest = System.Diagnostics.Tracing.EventSource.GenerateManifest(source.GetType(), null)!;
        MatchCollection events = Event().Matches(manifest);
        Assert.Equal(4, events.Count);
        Assert.All(events, one => Assert.Contains($"| {one.Groups["id"].Value} | `{one.Groups["name"].Value}` | ", guide, StringComparison.Ordinal));
        Assert.Equal(4, Regex.Count(guide, @"^\| \d+ \| `", RegexOptions.Multiline));
    }

    private static string Kind(Instrument instrument) => instrument.GetType().Name.Split('`')[0] switch
    {
        "ObservableUpDownCounter" => "up-down counter",
        "ObservableCounter" => "counter",
        "Histogram" => "histogram",
        string other => other,
    };

    private static IEnumerable<(string Name, string Kind, string Unit, string[] Tags)> Rows() => Row().Matches(Guide()).Select(row =>
        (row.Groups["name"].Value, row.Groups["kind"].Value, row.Groups["unit"].Value, Tag().Matches(row.Groups["tags"].Value).Select(tag => tag.Value).ToArray()));

    private static string Guide()
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(directory!.FullName, "KvCacheGpu.sln")))
        {
            directory = directory.Parent;
        }

        return File.ReadAllText(Path.Combine(directory.FullName, "docs", "diagnostics.md"));
    }

    [GeneratedRegex(@"^\| `(?<name>kvcache\.[a-z._]+)` \| (?<kind>[a-z -]+) \| (?<unit>\S+) \|(?<tags>[^|]*)\|", RegexOptions.Multiline | RegexOptions.ExplicitCapture)]
    private static partial Regex Row();

    [GeneratedRegex(@"(?<=`)[a-z._]+(?=`)")]
    private static partial Regex Tag();

    [GeneratedRegex(@"<event value=""(?<id>\d+)"" version=""\d+"" level=""[^""]+"" symbol=""(?<name>(?!EventSourceMessage)\w+)""", RegexOptions.ExplicitCapture)]
    private static partial Regex Event();
}
