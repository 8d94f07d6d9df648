using System.Diagnostics;

namespace KvCacheGpu.Configuration;

/// <summary>A migration as an activity "kvcache.migrate", under the name that caches' activities have too.</summary>
internal static class MigrationActivity
{
    private static readonly ActivitySource s_source = new("KvCacheGpu", typeof(MigrationActivity).Assembly.GetName().Version!.ToString(3));

    /// <summary>Runs a migration; the activity tells how many changes it made, or why it failed.</summary>
    public static T Run<T>(Func<T> migrate, Func<T, int> changes)
    {
        using Activity? activity = s_source.StartActivity("kvcache.migrate");
        try
        {
            T migrated = migrate();
            activity?.SetTag("kvcache.changes", changes(migrated));
            return migrated;
        }
        catch (Exception e)
        {
            activity?.SetTag("error.type", e is KvCacheException own ? own.Code : e.GetType().FullName).SetStatus(ActivityStatusCode.Error, e.Message);
            throw;
        }
    }
}
