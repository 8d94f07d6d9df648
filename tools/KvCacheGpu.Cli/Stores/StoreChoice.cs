using System.CommandLine;

namespace KvCacheGpu.Cli;

/// <summary>The store that a command works on.</summary>
internal static class StoreChoice
{
    /// <summary>The environment variable that holds the key of encrypted stores.</summary>
    public const string KeyVariable = "KVCACHE_SNAPSHOT_KEY";

    /// <summary>--store.</summary>
    public static Option<string?> Store() => Choice.Text("--store", "DIR", $"The directory of snapshots. Encrypted where {KeyVariable} holds a key of 64 hexadecimal digits.");

    /// <summary>--tenant.</summary>
    public static Option<string?> Tenant() => Choice.Text("--tenant", "T", "Whose the snapshot is. Default: nobody's.");

    /// <summary>Opens the store that was named. Snapshots that are not encrypted load from an encrypted store too, since the user of the command chose it.</summary>
    /// <exception cref="UsageException">None was named.</exception>
    public static SnapshotStore Open(string? directory)
    {
        SnapshotKey? key = Environment.GetEnvironmentVariable(KeyVariable) is null ? null : SnapshotKey.FromEnvironment(KeyVariable);
        return new SnapshotStore(Require("--store", directory, "a directory"), new SnapshotOptions { Key = key, AcceptsPlain = true });
    }

    /// <summary>Requires a text.</summary>
    /// <exception cref="UsageException">It is missing or empty.</exception>
    public static string Require(string option, string? text, string expected) =>
        string.IsNullOrEmpty(text) ? throw new UsageException(option, expected, text is null ? "none" : "an empty text") : text;

    /// <summary>Waits for an operation of a store, and throws its exception.</summary>
    public static T Run<T>(Task<T> operation) => operation.GetAwaiter().GetResult();
}
