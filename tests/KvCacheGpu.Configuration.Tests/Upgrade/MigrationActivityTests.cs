using System.Collections.Concurrent;
using System.Diagnostics;

namespace KvCacheGpu.Configuration.Tests.Upgrade;

/// <summary>Migrations are activities, with what they changed.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public class MigrationActivityTests
{
    [Fact]
    public void A_migration_and_an_upgrade_are_one_activity_each_and_a_dry_run_is_none()
    {
        var ended = new ConcurrentQueue<Activity>();
        using var host = new Activity("host");
        host.Start();
        using var listener = new ActivityListener
        {
            ShouldListenTo = source => source.Name == "KvCacheGpu",
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllData,
            ActivityStopped = activity =>
            {
                // Other tests run at the same time.
                if (activity.ParentSpanId == host.SpanId)
                {
                    ended.Enqueue(activity);
                }
            },
        };
        ActivitySource.AddActivityListener(listener);
        using (DiskProject project = Filled())
        {
            project.Manager().MigrateToNewFormat(dryRun: true);
            Assert.Empty(ended);
            Assert.Equal(2, project.Manager().MigrateToNewFormat().Files.Count);
        }

        using (DiskProject project = Filled())
        {
            Assert.NotNull(new KvUpgrade(project.Manager()).Run());
            Assert.Null(new KvUpgrade(project.Manager()).Run());
        }

        using (DiskProject project = Filled())
        {
            project.Write("config/kv_cache.yaml", "kv_cache: [");
            Assert.Throws<KvConfigurationException>(() => project.Manager().MigrateToNewFormat());
        }

        Activity[] all = [.. ended];
        Assert.All(all, activity => Assert.Equal("kvcache.migrate", activity.OperationName));
        Assert.Equal([2, 3, 0, null], all.Select(activity => activity.GetTagItem("kvcache.changes")));
        Assert.Equal((ActivityStatusCode.Error, "E003"), (all[3].Status, all[3].GetTagItem("error.type")));
    }

    private static DiskProject Filled()
    {
        var project = new DiskProject();
        project.Write("config/kv_cache.yaml", "kv_cache:\n  max_tokens: 7\n");
        project.Write(".env", "KV_CACHE_SIZE=7\n");
        return project;
    }
}
