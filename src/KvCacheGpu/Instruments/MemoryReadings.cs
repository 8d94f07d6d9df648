namespace KvCacheGpu;

/// <summary>Bytes of a cache. Callers are inside of the pool's gate.</summary>
internal static class MemoryReadings
{
    private const string OnDevice = "device";
    private const string OnHost = "host";

    /// <summary>Bytes in use. Those of the device are together <see cref="KvCache.AllocatedBytes"/>.</summary>
    public static void Usage(MeasuredCache cache, Readings<long> to)
    {
        CacheState state = cache.State;
        long root = state.Tier.Map.Bytes;
        long leaves = state.Pool.Leaves * state.Tier.Map.LeafBytes;
        long staging = state.Offload?.StageBytes ?? 0;
        long cached = state.Pool.CachedBytes;
        long scratch = state.Ledger.Scratch;
        long live = state.Pool.LiveBytes;
        Add("pages", live - leaves - staging - cached);
        Add("prefix", cached);
        Add("staging", staging);
        Add("tables", root + leaves);
        Add("scratch", scratch);
        Add("bookkeeping", state.Ledger.Live - live - root - scratch);
        if (state.Offload is { } offload)
        {
            AddOnHost("offload", offload.Counts.Bytes);
        }

        if (cache.CountsSequences)
        {
            AddOnHost("swap", state.Swapped.Bytes);
        }

        void Add(string kind, long bytes) => to.Add(bytes, [.. cache.OnDevice, Tags.Of(Tags.Tier, OnDevice), Tags.Of(Tags.Kind, kind)]);
        void AddOnHost(string kind, long bytes) => to.Add(bytes, [.. cache.OnDevice, Tags.Of(Tags.Tier, OnHost), Tags.Of(Tags.Kind, kind)]);
    }

    /// <summary>The budgets: of the device, and of host memory where the options have one.</summary>
    public static void Limit(MeasuredCache cache, Readings<long> to)
    {
        KvCacheOptions options = cache.State.Options;
        to.Add(cache.State.Room.BudgetBytes, [.. cache.OnDevice, Tags.Of(Tags.Tier, OnDevice)]);
        if (options.Offload is { } offload)
        {
            to.Add(offload.BudgetBytes, [.. cache.OnDevice, Tags.Of(Tags.Tier, OnHost), Tags.Of(Tags.Kind, "offload")]);
        }

        if (options.SwapBudgetBytes is { } swap && cache.CountsSequences)
        {
            to.Add(swap, [.. cache.OnDevice, Tags.Of(Tags.Tier, OnHost), Tags.Of(Tags.Kind, "swap")]);
        }
    }

    public static void Free(MeasuredCache cache, Readings<long> to) => to.Add(cache.State.Room.FreeBytes, cache.OnDevice);

    public static void Reserved(MeasuredCache cache, Readings<long> to) => to.Add(cache.State.Ledger.Reserved, cache.OnDevice);
}
