using System.Diagnostics;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Snapshots.Tests;

/// <summary>A process that saves samples under one name, seed after seed, and says what became of each.</summary>
internal static class SavingChild
{
    public const string Name = "a";

    /// <summary>Tests that start processes.</summary>
    public const string Processes = "processes";

    /// <summary>In the child: saves <paramref name="count"/> samples, "acked seed", "E006 seed", or another code and the message.</summary>
    public static int Run(string directory, int first, int count, int tokens)
    {
        var store = new SnapshotStore(directory, new SnapshotOptions { Workers = 2, BlockBytes = 512 });
        using Stream standard = Console.OpenStandardOutput();
        for (int seed = first; seed < first + count; seed++)
        {
            SnapshotSample sample = SnapshotSample.Create(seed, tokens);
            string said;
            try
            {
                store.Save(Name, sample.Content, sample.Read);
                said = $"acked {seed}\n";
            }
            catch (KvCacheException error)
            {
                said = $"{error.Code} {seed} {(error is KvPersistenceException { OutcomeUnknown: true } ? "unknown " : "")}{error.Message}\n";
            }

            standard.Write(System.Text.Encoding.UTF8.GetBytes(said));
            standard.Flush();
            if (said.StartsWith("E006", StringComparison.Ordinal))
            {
                // Busy: the same again, once the other lets go.
                Thread.Sleep(1);
                seed--;
            }
        }

        return 0;
    }

    /// <summary>In the parent: starts one.</summary>
    public static Process Start(string directory, int first, int count, int tokens, params string[] under)
    {
        string[] command = [.. under, Environment.ProcessPath is { } path && Path.GetFileNameWithoutExtension(path) == "dotnet" ? path : "dotnet",
            typeof(SavingChild).Assembly.Location, "save-snapshots", directory, $"{first}", $"{count}", $"{tokens}"];
        var start = new ProcessStartInfo(command[0], command[1..]) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["DOTNET_TieredPGO"] = "0";
        return Process.Start(start)!;
    }

    public static string Fingerprint(int seed, int tokens) => SnapshotSample.Create(seed, tokens).Fingerprint;

    /// <summary>Fingerprint of the snapshot in a store on the real disk; null if there is none.</summary>
    public static string? Load(string directory)
    {
        try
        {
            var target = new KeptTarget();
            SnapshotInfo info = new SnapshotStore(directory, new SnapshotOptions { Workers = 1 }).Load(Name, target, null, default);
            Assert.Null(info.Notice);
            return target.Fingerprint;
        }
        catch (KvSnapshotNotFoundException)
        {
            return null;
        }
    }
}

/// <summary>
/// Tests that start processes run while no others do: a process that is being started has this one's open files, and with them every store's lock, until it
/// runs its own program.
/// </summary>
[CollectionDefinition(SavingChild.Processes, DisableParallelization = true)]
public sealed class ProcessCollection;
