using ArchUnitNET.Fluent;
using ArchUnitNET.Loader;
using KvCacheGpu.Hosting;
using KvCacheGpu.Kernels;
using KvCacheGpu.Llama;
using KvCacheGpu.Serving;
using KvCacheGpu.Serving.AI;
using KvCacheGpu.Serving.AspNetCore;
using static ArchUnitNET.Fluent.ArchRuleDefinition;
using Assembly = System.Reflection.Assembly;

namespace KvCacheGpu.Architecture.Tests;

/// <summary>
/// Dependencies point one way: from Cli to everything, from Configuration to Sessions, from Sessions, TorchSharp, Redis and Llama to the engine, from the engine to the snapshot
/// store, from both to the kernels and Base, and never back. Hosting and OpenTelemetry join the engine with a host's packages; Serving knows the engine alone, and Llama is a model for it; Serving.AspNetCore and Serving.AI join it with a host. Base, Import and Catalog know nothing of ours, and the catalog's databases know the catalog alone; Sessions knows Import where it loads old caches.
/// </summary>
public class ArrowTests
{
    private static readonly Assembly Base = typeof(KvCacheException).Assembly;
    private static readonly Assembly Kernels = typeof(KernelTier).Assembly;
    private static readonly Assembly Snapshots = typeof(SnapshotStore).Assembly;
    private static readonly Assembly Engine = typeof(KvCache).Assembly;
    private static readonly Assembly Sessions = typeof(UltraAdaptiveKvCacheEngine).Assembly;
    private static readonly Assembly Llama = typeof(LlamaModel).Assembly;
    private static readonly Assembly Serving = typeof(KvScheduler).Assembly;
    private static readonly Assembly Web = typeof(KvServer).Assembly;
    private static readonly Assembly Chat = typeof(KvChatClient).Assembly;
    private static readonly Assembly Cli = Assembly.Load("kvcache");
    private static readonly Assembly Evaluation = Assembly.Load("KvCacheGpu.Evaluation");
    private static readonly Assembly Plots = Assembly.Load("KvCacheGpu.Plots");
    private static readonly Assembly Measuring = Assembly.Load("KvCacheGpu.Measuring");
    private static readonly Assembly Configuration = Assembly.Load("KvCacheGpu.Configuration");
    private static readonly Assembly Import = Assembly.Load("KvCacheGpu.Import");
    private static readonly Assembly Catalog = Assembly.Load("KvCacheGpu.Catalog");
    private static readonly Assembly CatalogOnSqlite = Assembly.Load("KvCacheGpu.Catalog.Sqlite");
    private static readonly Assembly CatalogOnPostgreSql = Assembly.Load("KvCacheGpu.Catalog.PostgreSql");
    private static readonly Assembly Torch = typeof(KvTorchCache).Assembly;
    private static readonly Assembly Redis = typeof(KvRedisTier).Assembly;
    private static readonly Assembly Hosting = typeof(KvCacheHostOptions).Assembly;
    private static readonly Assembly Telemetry = typeof(KvOpenTelemetry).Assembly;
    private static readonly Assembly[] Each =
    [
        Base, Kernels, Snapshots, Engine, Sessions, Configuration, Import, Catalog, CatalogOnSqlite, CatalogOnPostgreSql, Torch, Redis, Hosting, Telemetry, Serving, Web, Chat, Llama, Evaluation, Plots, Measuring, Cli,
    ];

    private static readonly ArchUnitNET.Domain.Architecture All = new ArchLoader().LoadAssemblies(Each).Build();

    private static readonly string[] Rooms =
    [
        "KvCacheGpu.Sessions", "KvCacheGpu.Configuration", "KvCacheGpu.Import", "KvCacheGpu.Catalog", "KvCacheGpu.Catalog.Sqlite", "KvCacheGpu.Catalog.PostgreSql",
        "KvCacheGpu.TorchSharp", "KvCacheGpu.Redis", "KvCacheGpu.Hosting", "KvCacheGpu.OpenTelemetry", "KvCacheGpu.Serving", "KvCacheGpu.Serving.AspNetCore",
        "KvCacheGpu.Serving.AI",
    ];

    private static readonly string[] Hosts = ["KvCacheGpu.Llama", "KvCacheGpu.Evaluation", "KvCacheGpu.Plots", "KvCacheGpu.Measuring", "kvcache"];

    public static TheoryData<string, string[]> Forbidden => new()
    {
        { "KvCacheGpu.Base", ["KvCacheGpu.Kernels", "KvCacheGpu.Snapshots", "KvCacheGpu", .. Rooms, .. Hosts] },
        { "KvCacheGpu.Kernels", ["KvCacheGpu.Base", "KvCacheGpu.Snapshots", "KvCacheGpu", .. Rooms, .. Hosts] },
        { "KvCacheGpu.Snapshots", ["KvCacheGpu", .. Rooms, .. Hosts] },
        { "KvCacheGpu", [.. Rooms, .. Hosts] },
        { "KvCacheGpu.Sessions", [.. Rooms.Except(["KvCacheGpu.Sessions", "KvCacheGpu.Import"]), .. Hosts] },
        { "KvCacheGpu.Configuration", ["KvCacheGpu.Snapshots", "KvCacheGpu", .. Rooms.Except(["KvCacheGpu.Configuration", "KvCacheGpu.Sessions"]), .. Hosts] },
        { "KvCacheGpu.Import", ["KvCacheGpu.Base", "KvCacheGpu.Kernels", "KvCacheGpu.Snapshots", "KvCacheGpu", .. Rooms.Except(["KvCacheGpu.Import"]), .. Hosts] },
        { "KvCacheGpu.Catalog", ["KvCacheGpu.Base", "KvCacheGpu.Kernels", "KvCacheGpu.Snapshots", "KvCacheGpu", .. Rooms.Except(["KvCacheGpu.Catalog"]), .. Hosts] },
        { "KvCacheGpu.Catalog.Sqlite", ["KvCacheGpu.Base", "KvCacheGpu.Kernels", "KvCacheGpu.Snapshots", "KvCacheGpu", .. Rooms.Except(["KvCacheGpu.Catalog", "KvCacheGpu.Catalog.Sqlite"]), .. Hosts] },
        { "KvCacheGpu.Catalog.PostgreSql", ["KvCacheGpu.Base", "KvCacheGpu.Kernels", "KvCacheGpu.Snapshots", "KvCacheGpu", .. Rooms.Except(["KvCacheGpu.Catalog", "KvCacheGpu.Catalog.PostgreSql"]), .. Hosts] },
        { "KvCacheGpu.TorchSharp", [.. Rooms.Except(["KvCacheGpu.TorchSharp"]), .. Hosts] },
        { "KvCacheGpu.Redis", [.. Rooms.Except(["KvCacheGpu.Redis"]), .. Hosts] },
        { "KvCacheGpu.Hosting", [.. Rooms.Except(["KvCacheGpu.Hosting"]), .. Hosts] },
        { "KvCacheGpu.OpenTelemetry", [.. Rooms.Except(["KvCacheGpu.OpenTelemetry"]), .. Hosts] },
        { "KvCacheGpu.Serving", [.. Rooms.Except(["KvCacheGpu.Serving"]), .. Hosts] },
        { "KvCacheGpu.Serving.AspNetCore", [.. Rooms.Except(["KvCacheGpu.Serving", "KvCacheGpu.Serving.AspNetCore"]), .. Hosts] },
        { "KvCacheGpu.Serving.AI", [.. Rooms.Except(["KvCacheGpu.Serving", "KvCacheGpu.Serving.AI"]), .. Hosts] },
        { "KvCacheGpu.Llama", [.. Rooms.Except(["KvCacheGpu.Serving"]), "KvCacheGpu.Evaluation", "KvCacheGpu.Plots", "kvcache"] },
        { "KvCacheGpu.Evaluation", ["KvCacheGpu.Plots", "kvcache"] },
        { "KvCacheGpu.Measuring", [.. Rooms, .. Hosts.Except(["KvCacheGpu.Measuring"])] },
        { "KvCacheGpu.Plots", ["KvCacheGpu.Base", "KvCacheGpu.Kernels", "KvCacheGpu.Snapshots", "KvCacheGpu", "KvCacheGpu.Llama", "KvCacheGpu.Evaluation", "kvcache"] },
    };

    [Theory]
    [MemberData(nameof(Forbidden))]
    public void No_arrow_points_back(string from, string[] to)
    {
        foreach (string target in to)
        {
            Assembly source = Find(from), forbidden = Find(target);
            // Import and the catalog on SQLite compile Base's PathKind.cs for themselves: one name in three assemblies, and no arrow.
            IArchRule rule = Types().That().ResideInAssembly(source).Should().NotDependOnAny(Types().That().ResideInAssembly(forbidden).And().DoNotHaveName("PathKind"));
            Check(rule);
            Assert.DoesNotContain(source.GetReferencedAssemblies(), name => name.Name == target);
        }
    }

    [Fact]
    public void Only_what_loads_old_caches_sees_their_readers()
    {
        string[] loaders = [nameof(CacheFileImporter), nameof(KvCacheFileExtensions)];
        IArchRule rule = Types().That().ResideInAssembly(Sessions).And().DependOnAny(Types().That().ResideInAssembly(Import))
            .Should().HaveNameMatching($"^({string.Join('|', loaders)})$");
        Check(rule);
        Assert.Contains(Sessions.GetReferencedAssemblies(), name => name.Name == "KvCacheGpu.Import");
    }

    [Fact]
    public void Only_kernels_and_engine_see_ILGPU()
    {
        Assert.Contains(Kernels.GetReferencedAssemblies(), name => name.Name == "ILGPU");
        foreach (Assembly host in new[] { Base, Snapshots, Sessions, Configuration, Import, Catalog, CatalogOnSqlite, CatalogOnPostgreSql, Torch, Redis, Hosting, Telemetry, Serving, Web, Chat, Llama, Evaluation, Plots, Cli })
        {
            Assert.DoesNotContain(host.GetReferencedAssemblies(), name => name.Name!.StartsWith("ILGPU", StringComparison.Ordinal));
        }
    }

    [Fact]
    public void Only_the_adapter_sees_TorchSharp()
    {
        Assert.Contains(Torch.GetReferencedAssemblies(), name => name.Name == "TorchSharp");
        Assert.All(Each.Except([Torch]), one => Assert.DoesNotContain(one.GetReferencedAssemblies(), name => name.Name == "TorchSharp"));
    }

    [Fact]
    public void Only_the_remote_tier_sees_the_client_of_Redis()
    {
        Assert.Contains(Redis.GetReferencedAssemblies(), name => name.Name == "StackExchange.Redis");
        Assert.All(Each.Except([Redis]), one => Assert.DoesNotContain(one.GetReferencedAssemblies(), name => name.Name == "StackExchange.Redis"));
    }

    /// <summary>Who uses one database does not bring the other's driver.</summary>
    [Fact]
    public void Only_the_catalog_on_a_database_sees_its_driver()
    {
        foreach ((Assembly own, string driver) in new[] { (CatalogOnSqlite, "Microsoft.Data.Sqlite"), (CatalogOnPostgreSql, "Npgsql") })
        {
            Assert.Contains(own.GetReferencedAssemblies(), name => name.Name == driver);
            Assert.All(Each.Except([own]), one => Assert.DoesNotContain(one.GetReferencedAssemblies(), name => name.Name == driver));
        }
    }

    [Fact]
    public void Only_the_packages_for_it_see_a_web_server_OpenTelemetry_and_a_hosts_health_checks()
    {
        foreach ((Assembly[] own, string what) in new (Assembly[], string)[]
        {
            ([Telemetry, Web], "OpenTelemetry"), ([Hosting], "Microsoft.Extensions.Diagnostics.HealthChecks"), ([Hosting, Web, Cli], "Microsoft.Extensions.Hosting"),
            ([Web, Cli], "Microsoft.AspNetCore"), ([Chat], "Microsoft.Extensions.AI"),
        })
        {
            Assert.All(own, one => Assert.Contains(one.GetReferencedAssemblies(), name => name.Name!.StartsWith(what, StringComparison.Ordinal)));
            Assert.All(Each.Except(own), one => Assert.DoesNotContain(one.GetReferencedAssemblies(), name => name.Name!.StartsWith(what, StringComparison.Ordinal)));
        }
    }

    [Fact]
    public void The_engine_reads_no_files_and_no_configuration()
    {
        string[] banned = ["System.IO.FileSystem", "System.Text.Json", "Microsoft.Extensions.Configuration", "Microsoft.Extensions.Configuration.Abstractions"];
        Assert.DoesNotContain(Engine.GetReferencedAssemblies(), name => banned.Contains(name.Name));
    }

    [Fact]
    public void Kernels_know_no_sequence_and_no_policy() =>
        Check(Types().That().ResideInAssembly(Kernels).Should().NotHaveNameMatching("^Kv(Sequence|Policy|Cache|Batch)$"));

    [Fact]
    public void Policies_know_no_device() =>
        Check(Types().That().HaveNameEndingWith("Policy").And().ResideInAssembly(Engine).Should()
            .NotDependOnAny(Types().That().HaveNameMatching("^(KernelTier|KernelBatch|KvDevice|PagePool)$")));

    [Fact]
    public void Public_types_lie_in_one_flat_namespace_per_assembly()
    {
        foreach ((Assembly assembly, string space) in new[]
        {
            (Base, "KvCacheGpu"), (Snapshots, "KvCacheGpu"), (Engine, "KvCacheGpu"), (Sessions, "KvCacheGpu"), (Configuration, "KvCacheGpu.Configuration"), (Import, "KvCacheGpu.Import"),
            (Catalog, "KvCacheGpu.Catalog"), (CatalogOnSqlite, "KvCacheGpu.Catalog"), (CatalogOnPostgreSql, "KvCacheGpu.Catalog"), (Torch, "KvCacheGpu"), (Redis, "KvCacheGpu"), (Hosting, "KvCacheGpu.Hosting"), (Telemetry, "KvCacheGpu"), (Serving, "KvCacheGpu.Serving"), (Web, "KvCacheGpu.Serving.AspNetCore"), (Chat, "KvCacheGpu.Serving.AI"), (Llama, "KvCacheGpu.Llama"),
        })
        {
            Assert.All(assembly.GetExportedTypes(), type => Assert.Equal(space, type.Namespace));
        }

        // What a host names to use a cache lies where the cache does; tiers, layouts and codecs lie apart.
        string[] hosts = [nameof(KvGeometry), nameof(HeadRange), nameof(KvRope), nameof(KvKeyScales), nameof(PageFormat), nameof(PageFormats), nameof(KvTensor), nameof(TensorType), nameof(KvOutput), nameof(KvStream), nameof(KvStepShape), nameof(KvStepGraph), nameof(KvAttentionPrecision)];
        Assert.All(Kernels.GetExportedTypes(), type => Assert.Equal(hosts.Contains(type.Name) ? "KvCacheGpu" : "KvCacheGpu.Kernels", type.Namespace));
    }

    private static void Check(IArchRule rule) => Assert.Empty(rule.Evaluate(All).Where(result => !result.Passed).Select(result => result.Description));

    private static Assembly Find(string name) => Each.Single(a => a.GetName().Name == name);
}
