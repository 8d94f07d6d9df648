using System.Diagnostics;

namespace KvCacheGpu.Tests.Tiers;

/// <summary>A process that writes blocks into a folder, number after number, and says how far it is.</summary>
internal static class WritingChild
{
    /// <summary>Tests that start processes.</summary>
    public const string Processes = "processes of tiers";

    /// <summary>Bytes of the files: old ones are dropped all the time.</summary>
    public const long Limit = 4 << 20;

    private const int Run = 3;

    /// <summary>Bytes of a block, by its number.</summary>
    public static int LengthOf(int number) => number / Run % 2 == 0 ? 5_000 : 40_000;

    /// <summary>In the child: writes runs of three, and the number after each that is written.</summary>
    public static async Task<int> RunAsync(string folder, int first)
    {
        using var tier = new KvDiskTier(folder, Limit);
        using Stream standard = Console.OpenStandardOutput();
        for (int next = first; ; next += Run)
        {
            // Those that a killed process had written, and not acknowledged, are there already.
            await tier.PutAsync(LengthOf(next), [.. Enumerable.Range(next, Run)]);
            if (tier.Counts.Errors > 0)
            {
                return 1;
            }

            standard.Write(System.Text.Encoding.UTF8.GetBytes($"{next + Run}\n"));
            standard.Flush();
        }
    }

    /// <summary>In the parent: starts one.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="first">The first number, a multiple of three.</param>
    public static Process Start(string folder, int first)
    {
        string dotnet = Environment.ProcessPath is { } path && Path.GetFileNameWithoutExtension(path) == "dotnet" ? path : "dotnet";
        return Process.Start(new ProcessStartInfo(dotnet, [typeof(WritingChild).Assembly.Location, "write-blocks", folder, $"{first}"])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
    }
}

/// <summary>
/// Tests that start processes run while no others do: a process that is being started has this one's open files, and with them every folder's lock, until it runs its
/// own program.
/// </summary>
[CollectionDefinition(WritingChild.Processes, DisableParallelization = true)]
public sealed class TierProcessCollection;
