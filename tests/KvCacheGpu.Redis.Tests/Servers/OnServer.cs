using System.Reflection;
using Xunit.Sdk;

namespace KvCacheGpu.Redis.Tests;

/// <summary>Runs a theory on the Redis that KVCACHE_TEST_REDIS names; skipped, with that reason, if it names none.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class OnRedisAttribute : DataAttribute
{
    public OnRedisAttribute() => Skip = TestServer.WhyNot("KVCACHE_TEST_REDIS");

    public override IEnumerable<object[]> GetData(MethodInfo testMethod) => [["KVCACHE_TEST_REDIS"]];
}

/// <summary>Runs a theory on the cluster that KVCACHE_TEST_REDIS_CLUSTER names; skipped, with that reason, if it names none.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class OnClusterAttribute : DataAttribute
{
    public OnClusterAttribute() => Skip = TestServer.WhyNot("KVCACHE_TEST_REDIS_CLUSTER");

    public override IEnumerable<object[]> GetData(MethodInfo testMethod) => [["KVCACHE_TEST_REDIS_CLUSTER"]];
}

/// <summary>Runs a theory on the Garnet that KVCACHE_TEST_GARNET names; skipped, with that reason, if it names none.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class OnGarnetAttribute : DataAttribute
{
    public OnGarnetAttribute() => Skip = TestServer.WhyNot("KVCACHE_TEST_GARNET");

    public override IEnumerable<object[]> GetData(MethodInfo testMethod) => [["KVCACHE_TEST_GARNET"]];
}

/// <summary>A fact about a Redis that is stopped or killed for it; skipped, with that reason, if there is none that can be started again.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class RedisFaultFactAttribute : FactAttribute
{
    public RedisFaultFactAttribute() => Skip = TestServer.WhyNot("KVCACHE_TEST_REDIS") ?? TestServer.WhyNot("KVCACHE_TEST_REDIS_RESTART");
}

/// <summary>The same of a cluster.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class ClusterFaultFactAttribute : FactAttribute
{
    public ClusterFaultFactAttribute() => Skip = TestServer.WhyNot("KVCACHE_TEST_REDIS_CLUSTER") ?? TestServer.WhyNot("KVCACHE_TEST_REDIS_CLUSTER_RESTART");
}
