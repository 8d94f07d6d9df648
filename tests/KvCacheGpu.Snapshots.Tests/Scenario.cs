using KvCacheGpu.TestKit;

namespace KvCacheGpu.Snapshots.Tests;

/// <summary>One thing done to a store, and what may be found of the snapshot "a" before and after.</summary>
internal sealed record Scenario(string Name, Action<MemoryStore> Before, Action<MemoryStore> Act, string? Old, string? New)
{
    private static readonly SnapshotKey Key = SnapshotKey.FromBytes(Enumerable.Range(0, 32).Select(i => (byte)i).ToArray());

    public SnapshotOptions Options { get; init; } = SnapshotSample.Inline;

    public static IReadOnlyList<Scenario> All { get; } =
    [
        new("first save", _ => { }, store => Save(store, 1), null, Print(1)),
        new("second save", store => Save(store, 1), store => Save(store, 2), Print(1), Print(2)),
        new("third save, which deletes", store => Saves(store, 1, 2), store => Save(store, 3), Print(2), Print(3)),
        new("encrypted save", store => Save(store, 1), store => Save(store, 2), Print(1), Print(2)) { Options = SnapshotSample.Inline with { Key = Key } },
        new("save over what another left", Littered, store => Save(store, 2), Print(1), Print(2)),
        new("save of another name", store => Save(store, 1), store => store.Save(new("b", "t"), SnapshotSample.Create(2)), Print(1), Print(1)),
        new("deletion", store => Saves(store, 1, 2), store => store.Store.Delete("a", default), Print(2), null),
        new("restore", store => BackedUp(store), store => store.Store.Restore(Backup(store), null, default), Print(2), Print(1)),
    ];

    public MemoryDisk Prepare()
    {
        var disk = new MemoryDisk();
        Before(new MemoryStore(disk, Options));
        return disk;
    }

    public override string ToString() => Name;

    private static string Print(int seed) => SnapshotSample.Create(seed).Fingerprint;

    private static void Save(MemoryStore store, int seed) => store.Save("a", SnapshotSample.Create(seed));

    private static void Saves(MemoryStore store, params int[] seeds) => Array.ForEach(seeds, seed => Save(store, seed));

    private static SnapshotStore Backup(MemoryStore store) => new("/backup", SnapshotSample.Inline, store.Files);

    private static void BackedUp(MemoryStore store)
    {
        Save(store, 1);
        Backup(store).CopyFrom(store.Store, null, default);
        Save(store, 2);
    }

    // Writers that died at several places: temporaries, files that were never committed, a store without its last tidying.
    private static void Littered(MemoryStore store)
    {
        Save(store, 1);
        store.Files.Fault = Fault.Dead;
        for (int operation = 12; ; operation += 5)
        {
            store.Files.FailAt = store.Files.Operations + operation;
            try
            {
                Save(store, 1);
                break;
            }
            catch (KvPersistenceException)
            {
            }
        }

        store.Files.FailAt = 0;
        store.Files.BeforeCall = call => store.Files.FailAt = store.Files.FailAt == 0 && call.EndsWith(".CURRENT.tmp", StringComparison.Ordinal) ? store.Files.Operations + 1 : store.Files.FailAt;
        Assert.False(Assert.Throws<KvPersistenceException>(() => Save(store, 9)).OutcomeUnknown);
        (store.Files.BeforeCall, store.Files.FailAt) = (null, 0);
    }
}
