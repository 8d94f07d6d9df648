using System.Text.Json;
using KvCacheGpu.Configuration;
using KvCacheGpu.Import;

namespace KvCacheGpu.Cli;

/// <summary>The step of an upgrade that makes a snapshot of an old cache file. The file is only read. Undoing the step deletes the snapshot.</summary>
/// <param name="file">The .pkl or .pt file; null if none was named, but a journal may have one.</param>
/// <param name="name">The snapshot to make; null for the file's own name.</param>
/// <param name="store">The snapshot store's directory.</param>
/// <param name="lossless">True to quarantine entries of float64 of which float32 would round an element.</param>
internal sealed class DataStep(string? file, string? name, string store, bool lossless = false) : IUpgradeStep
{
    /// <inheritdoc/>
    public string Name => "data";

    /// <inheritdoc/>
    public string Title => file is null ? "Back up and migrate the cache's data (--data names a file)" : "Migrate the cache's data";

    /// <inheritdoc/>
    public string? Plan()
    {
        if (file is null)
        {
            return null;
        }

        var planned = new Planned(Path.GetFullPath(file), DataMigration.DigestOf(file), name ?? Path.GetFileNameWithoutExtension(file), Path.GetFullPath(store), lossless);
        return planned.Migration().Run(dryRun: true, new QuietStages()).AlreadyDone ? null : JsonSerializer.Serialize(planned);
    }

    /// <inheritdoc/>
    public string Do(string plan)
    {
        UnverifiedStore.Sweep(Read(plan).Store);
        MigrationReport report = Read(plan).Migration().Run(dryRun: false, new QuietStages());
        RoundingLoss loss = new(report.RoundedElements, report.LargestRounding);
        return $"snapshot {report.Snapshot} of {report.Imported} entries; {report.Quarantined.Count} quarantined, {report.Refused.Count} refused, the file untouched{(loss.IsNone ? string.Empty : $"; {loss}")}";
    }

    /// <inheritdoc/>
    public void Undo(string plan)
    {
        Planned planned = Read(plan);
        UnverifiedStore.Sweep(planned.Store);

        // Only a snapshot that was made of this file is deleted, because another one may have the name by now.
        if (planned.IsMade())
        {
            planned.OpenStore().DeleteAsync(planned.Snapshot).GetAwaiter().GetResult();
        }
    }

    /// <inheritdoc/>
    public void Verify(string plan)
    {
        Planned planned = Read(plan);
        if (!planned.IsMade())
        {
            throw new IOException($"snapshot '{planned.Snapshot}': expected one made of {planned.File}, got another, or none");
        }
    }

    private static Planned Read(string plan) => JsonSerializer.Deserialize<Planned>(plan) ?? throw new IOException($"an upgrade's step 'data': expected a plan, got {plan}");

    private sealed record Planned(string File, string Sha256, string Snapshot, string Store, bool Lossless = false)
    {
        public DataMigration Migration() => new(File, Snapshot, Store, null, Lossless);

        public SnapshotStore OpenStore() => StoreChoice.Open(Store);

        public bool IsMade()
        {
            if (!Directory.Exists(Store))
            {
                return false;
            }

            try
            {
                using OpenSnapshot there = OpenStore().InspectAsync(Snapshot).GetAwaiter().GetResult();
                return DataMigration.IsOf(there.Content, Sha256);
            }
            catch (KvSnapshotNotFoundException)
            {
                return false;
            }
        }
    }
}
