using System.CommandLine;

namespace KvCacheGpu.Cli;

/// <summary>The options that name tiers below a cache: --host-budget, --disk-tier, --disk-budget, --remote.</summary>
internal sealed class TierOptions
{
    /// <summary>Names the server of a configuration with <c>enable_distributed</c>.</summary>
    public const string AddressVariable = "KV_CACHE_REDIS_URL";

    private const long DefaultDiskBytes = 1L << 30;
    private const string Bytes = "bytes (\"67108864\", \"64MiB\", \"1.5GB\"), above 0";

    private readonly Option<MemoryBudget?> _host = HostBudget();
    private readonly Option<string?> _disk = Choice.Text("--disk-tier", "DIR", "A folder for blocks of prefixes: another run with the same first tokens fetches them. Default: none.");
    private readonly Option<MemoryBudget?> _diskBytes = DiskBudget("Bytes of that folder. Default: 1 GiB.");
    private readonly Option<string?> _remote = Choice.Text("--remote", "URL", "A Redis, Valkey or Garnet server for them: redis://HOST:PORT. Default: none.");

    /// <summary>--offload.</summary>
    public static Option<MemoryBudget?> Offload(string description) => OfBytes("--offload", description);

    /// <summary>--host-budget.</summary>
    public static Option<MemoryBudget?> HostBudget() => OfBytes("--host-budget", "Bytes of host memory for blocks of prefixes. Default: none.");

    /// <summary>--disk-budget.</summary>
    public static Option<MemoryBudget?> DiskBudget(string description) => OfBytes("--disk-budget", description);

    /// <summary>Adds the options to a command.</summary>
    public TierOptions AddTo(Command command)
    {
        command.Add(_host);
        command.Add(_disk);
        command.Add(_diskBytes);
        command.Add(_remote);
        return this;
    }

    /// <summary>Opens what was named, the nearest first; empty if nothing was.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="config">A configuration, whose <c>enable_distributed</c> opens a server too; null without one.</param>
    /// <exception cref="UsageException">--disk-budget without --disk-tier.</exception>
    /// <exception cref="KvCacheException">The folder cannot be opened, or the address not be read.</exception>
    public OpenTiers Open(ParseResult parsed, KvCacheConfig? config = null)
    {
        if (parsed.GetValue(_diskBytes) is not null && parsed.GetValue(_disk) is null)
        {
            throw new UsageException(_diskBytes.Name, $"{_disk.Name} with it", "none");
        }

        var tiers = new OpenTiers();
        try
        {
            if (parsed.GetValue(_host) is { } host)
            {
                tiers.Add(new KvHostTier(host.Bytes!.Value));
            }

            if (parsed.GetValue(_disk) is { } disk)
            {
                tiers.Add(new KvDiskTier(disk.Length > 0 ? disk : throw new UsageException(_disk.Name, "a folder", "an empty text"), parsed.GetValue(_diskBytes)?.Bytes ?? DefaultDiskBytes));
            }

            if ((parsed.GetValue(_remote) ?? (config?.Distributed.EnableDistributed == true ? SharedAddress() : null)) is { } remote)
            {
                tiers.Add(Redis(remote));
            }

            return tiers;
        }
        catch
        {
            tiers.Dispose();
            throw;
        }
    }

    private static KvRedisTier Redis(string address)
    {
        try
        {
            // A run connects and asks at once: what a server answers in milliseconds takes a new process longer.
            return new KvRedisTier(address, new KvRedisTierOptions { Deadline = TimeSpan.FromSeconds(2) });
        }
        catch (KvConfigurationException e)
        {
            throw new UsageException($"--remote, {AddressVariable}", e.Expected, e.Actual);
        }
    }

    // No key of the configuration says where the server is.
    private static string SharedAddress() => Environment.GetEnvironmentVariable(AddressVariable) is { Length: > 0 } address ? address : "redis://localhost:6379";

    // A part of a dense cache is not known where a tier is named.
    private static Option<MemoryBudget?> OfBytes(string name, string description) => Choice.Parsed<MemoryBudget?>(
        name, "BYTES", description, Bytes, (string text, out MemoryBudget? budget) => MemoryBudget.TryParse(text, out budget) && budget!.Bytes is not null);
}

/// <summary>Tiers that a command has opened.</summary>
internal sealed class OpenTiers : IDisposable
{
    private readonly List<KvTier> _tiers = [];

    /// <summary>The tiers, the nearest first.</summary>
    public IReadOnlyList<KvTier> Tiers => _tiers;

    /// <summary>What was asked of each, and what each holds; null if there is none.</summary>
    public IReadOnlyList<TierReport>? Report => _tiers.Count == 0 ? null : [.. _tiers.Select(TierReport.Of)];

    /// <summary>Adds a tier, this one's to dispose.</summary>
    public void Add(KvTier tier) => _tiers.Add(tier);

    /// <summary>Lets a cache use them.</summary>
    public void Set(KvCacheOptions options)
    {
        if (_tiers.Count > 0)
        {
            (options.Tiers, options.PrefixReuse) = (_tiers, true);
        }
    }

    public void Dispose()
    {
        foreach (IDisposable tier in _tiers.OfType<IDisposable>())
        {
            tier.Dispose();
        }
    }
}

/// <summary>A tier below the cache, in documents.</summary>
/// <param name="Name">"host", "disk", "redis".</param>
/// <param name="BytesInUse">Bytes of blocks that it holds; null where it cannot tell.</param>
/// <param name="BytesLimit">Bytes that it may hold; null where something else limits them.</param>
/// <param name="Read">Number of blocks that were read from it.</param>
/// <param name="Missed">Number of blocks that were asked for and not there.</param>
/// <param name="Written">Number of blocks that it took.</param>
/// <param name="Errors">How often something went wrong, each of which was a miss.</param>
/// <param name="LastError">What went wrong last; null if nothing did.</param>
internal sealed record TierReport(string Name, long? BytesInUse, long? BytesLimit, long Read, long Missed, long Written, long Errors, string? LastError)
{
    /// <summary>Makes the document of a tier.</summary>
    public static TierReport Of(KvTier tier)
    {
        KvTierCounts counts = tier.Counts;
        return new TierReport(tier.Name, tier.BytesInUse, tier.BytesLimit, counts.Read, counts.Missed, counts.Written, counts.Errors, counts.LastError);
    }

    /// <summary>"disk: 12 blocks read, 0 missed, 3 written; 1.2 MiB of 1 GiB".</summary>
    public override string ToString()
    {
        string size = BytesInUse is { } used ? $"; {Readable.Bytes(used)}{(BytesLimit is { } limit ? $" of {Readable.Bytes(limit)}" : string.Empty)}" : string.Empty;
        string errors = Errors > 0 ? $"; {Errors} errors, the last: {LastError}" : string.Empty;
        return $"{Name}: {Read} blocks read, {Missed} missed, {Written} written{size}{errors}";
    }
}
