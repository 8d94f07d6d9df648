using System.Diagnostics.Metrics;
using System.Numerics;

namespace KvCacheGpu;

/// <summary>
/// The observable instruments. Each is read when a listener asks: from what caches keep anyway, and of all caches that live. docs/diagnostics.md lists them; a test compares.
/// </summary>
internal static class CacheInstruments
{
    /// <summary>Makes them, and the histograms, so that a listener sees all of them from the first cache on.</summary>
    public static void Make()
    {
        Amount("kvcache.memory.usage", "By", "Bytes in use, by what they hold and where they lie.", MemoryReadings.Usage, TierReadings.Usage);
        Amount("kvcache.memory.limit", "By", "Bytes that may be in use.", MemoryReadings.Limit, TierReadings.Limit);
        Amount("kvcache.memory.free", "By", "Bytes that steps may still take on the device.", MemoryReadings.Free);
        Amount("kvcache.memory.reserved", "By", "Bytes of the arena, reserved when the cache was made.", MemoryReadings.Reserved);
        Amount("kvcache.pages", "{page}", "Live pages of single layers and KV heads.", PageReadings.Pages);
        Amount("kvcache.sequences", "{sequence}", "Sequences that live.", SequenceReadings.Sequences);
        Amount("kvcache.sequences.limit", "{sequence}", "Sequences that may live at once.", SequenceReadings.Limit);
        Amount("kvcache.sequences.tokens", "{token}", "Tokens of the sequences that live, dropped ones counted.", SequenceReadings.Tokens);
        Amount("kvcache.sequences.memory", "By", "Bytes of the pages that sequences list; a shared page counts in each.", SequenceReadings.Memory);

        Count("kvcache.sequences.forgotten", "{sequence}", "Sequences that were collected without having been disposed.", CountReadings.Forgotten);
        Count("kvcache.steps", "{step}", "Steps committed.", CountReadings.Steps);
        Count("kvcache.tokens.appended", "{token}", "Tokens that steps appended.", CountReadings.Appended);
        Count("kvcache.tokens.reused", "{token}", "Tokens that sequences began with.", CountReadings.Reused);
        Count("kvcache.tokens.fetched", "{token}", "Tokens that came from lower tiers.", CountReadings.Fetched);
        PartCount("kvcache.tokens.evicted", "{token}", "Tokens that a policy dropped, the mean over layers and KV heads.", CountReadings.Evicted);
        PartCount("kvcache.tokens.demoted", "{token}", "Tokens whose pages were written anew with fewer bits, the mean over layers and KV heads.", CountReadings.Demoted);
        Count("kvcache.prefix.lookups", "{lookup}", "Prefixes that sequences looked up.", CountReadings.Lookups);
        Count("kvcache.prefix.blocks", "{block}", "Blocks of prefixes on their way from and to lower tiers.", CountReadings.Blocks);
        Count("kvcache.offload.pages", "{page}", "Pages on their way to host memory and back.", CountReadings.Offload);
        Count("kvcache.refusals", "{refusal}", "Calls that were refused, by what was missing.", CountReadings.Refusals);
        Count("kvcache.tier.blocks", "{block}", "Blocks that lower tiers were asked for, or took.", TierReadings.Blocks);
        Count("kvcache.tier.io", "By", "Bytes of the blocks that lower tiers gave or took.", TierReadings.Bytes);
        Count("kvcache.tier.errors", "{error}", "Failures of lower tiers.", TierReadings.Errors);
        System.Runtime.CompilerServices.RuntimeHelpers.RunClassConstructor(typeof(Durations).TypeHandle);
    }

    private static void Amount(string name, string unit, string description, Action<MeasuredCache, Readings<long>> read, Action<HashSet<KvTier>, Readings<long>>? ofTiers = null) =>
        KvDiagnostics.Meter.CreateObservableUpDownCounter(name, () => Read(read, ofTiers), unit, description);

    private static void Count(string name, string unit, string description, Action<MeasuredCache, Readings<long>> read) =>
        KvDiagnostics.Meter.CreateObservableCounter(name, () => Read(read, null), unit, description);

    private static void Count(string name, string unit, string description, Action<HashSet<KvTier>, Readings<long>> read) =>
        KvDiagnostics.Meter.CreateObservableCounter(name, () => Read(null, read), unit, description);

    private static void PartCount(string name, string unit, string description, Action<MeasuredCache, Readings<double>> read) =>
        KvDiagnostics.Meter.CreateObservableCounter(name, () => Read(read, null), unit, description);

    // A tier that several caches share is read once.
    private static IEnumerable<Measurement<T>> Read<T>(Action<MeasuredCache, Readings<T>>? read, Action<HashSet<KvTier>, Readings<T>>? ofTiers)
        where T : struct, INumber<T>
    {
        var readings = new Readings<T>();
        MeasuredCache[] caches = MeasuredCaches.All;
        foreach (MeasuredCache cache in caches)
        {
            if (read is not null)
            {
                cache.Read(read, readings);
            }
        }

        ofTiers?.Invoke([.. caches.SelectMany(cache => cache.State.Options.Tiers)], readings);
        return readings.All;
    }
}
