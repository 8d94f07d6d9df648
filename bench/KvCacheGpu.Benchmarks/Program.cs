using BenchmarkDotNet.Running;
using KvCacheGpu.Benchmarks;
using KvCacheGpu.TestKit;

if (args is ["roofline", .. string[] options])
{
    return Roofline.Run(options);
}

if (args is ["cpu", .. string[] rows])
{
    return CpuRates.Run(rows);
}

if (args is ["errors"])
{
    Console.Write(ErrorTable.Markdown());
    return 0;
}

if (args is ["snapshots", .. string[] sizes])
{
    return SnapshotRates.Run(sizes);
}

if (args is ["tiers", .. string[] tierOptions])
{
    return TierRates.Run(tierOptions);
}

if (args is ["offload"])
{
    return OffloadRates.Run();
}

if (args is ["diagnostics"])
{
    return DiagnosticsRates.Run();
}

if (args is ["redis", .. string[] server])
{
    return RedisRates.Run(server);
}

if (args is ["planning", .. string[] layers])
{
    return PlanningRates.Run(layers);
}

BenchmarkSwitcher.FromAssembly(typeof(Program).Assembly).Run(args);
return 0;
