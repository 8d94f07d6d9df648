using System.Diagnostics;
using KvCacheGpu.TestKit;
using Xunit.Abstractions;

namespace KvCacheGpu.Snapshots.Tests;

/// <summary>Processes that save to a real disk: killed, and two at once.</summary>
[Collection(SavingChild.Processes)]
public sealed class RealProcessTests(ITestOutputHelper output) : IDisposable
{
    private const int Tokens = 61;

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("kvcache-snapshots-");

    public void Dispose() => _folder.Delete(recursive: true);

    [Fact]
    public async Task A_killed_process_leaves_what_it_acknowledged_or_what_it_was_saving()
    {
        int kills = FaultTally.Slice(200, 20_000);
        const int Lanes = 3;
        int[] fired = await Task.WhenAll(Enumerable.Range(0, Lanes).Select(lane => Task.Run(() => KillMany(lane, (kills + Lanes - 1) / Lanes))));
        FaultTally.Report(output, "kill -9 of a saving process", fired.Sum(), 200);
    }

    [Fact]
    public async Task Two_processes_that_save_to_one_store_never_mix()
    {
        const int Rounds = 200;
        string directory = Path.Combine(_folder.FullName, "contended");
        using Process one = SavingChild.Start(directory, 1_000, Rounds, Tokens), other = SavingChild.Start(directory, 2_000, Rounds, Tokens);
        Task<string> oneSaid = one.StandardOutput.ReadToEndAsync(), otherSaid = other.StandardOutput.ReadToEndAsync();
        HashSet<string?> known = [null, .. Enumerable.Range(0, Rounds).SelectMany(i => new[] { 1_000 + i, 2_000 + i }).Select(seed => SavingChild.Fingerprint(seed, Tokens))];
        int loads = 0;
        while (!one.HasExited || !other.HasExited)
        {
            Assert.Contains(SavingChild.Load(directory), known);
            loads++;
        }

        string[] lines = [.. (await oneSaid).Split('\n', StringSplitOptions.RemoveEmptyEntries), .. (await otherSaid).Split('\n', StringSplitOptions.RemoveEmptyEntries)];
        Assert.All(lines, line => Assert.Matches("^(acked|E006) ", line));
        int busy = lines.Count(line => line.StartsWith("E006", StringComparison.Ordinal));
        Assert.Equal(2 * Rounds, lines.Length - busy);
        FaultTally.Report(output, $"saves refused as busy, {lines.Length - busy} done, {loads} loads beside them", busy, 1);
        Assert.All(new SnapshotStore(directory).Verify(SavingChild.Name, default), verdict => Assert.Null(verdict.Error));
    }

    private int KillMany(int lane, int kills)
    {
        string directory = Path.Combine(_folder.FullName, $"lane-{lane}");
        var random = new Random(lane);
        int fired = 0;
        int next = 1;
        string? before = null;
        for (int kill = 0; kill < kills; kill++)
        {
            using Process child = SavingChild.Start(directory, next, 100_000, Tokens);
            string? line = child.StandardOutput.ReadLine();
            if (line is null)
            {
                Assert.Fail($"the child saved nothing: {child.StandardError.ReadToEnd()}");
            }

            int delay = random.Next(8_000);
            long until = Stopwatch.GetTimestamp() + (delay * Stopwatch.Frequency / 1_000_000);
            while (Stopwatch.GetTimestamp() < until)
            {
            }

            child.Kill();
            int acked = 0;
            for (; line is not null; line = child.StandardOutput.ReadLine())
            {
                // The last line may be cut by the kill.
                acked = line.StartsWith("acked ", StringComparison.Ordinal) && int.TryParse(line.AsSpan(6), out int seed) && seed == next + Math.Max(acked - next + 1, 0) ? seed : acked;
            }

            child.WaitForExit();
            string? found = SavingChild.Load(directory);
            bool isRight = found == SavingChild.Fingerprint(acked, Tokens) || found == SavingChild.Fingerprint(acked + 1, Tokens);
            Assert.True(isRight, $"kill {kill}: acknowledged {acked}, found another ({(found == before ? "the one before" : "unknown")})");
            fired += child.ExitCode == 128 + 9 ? 1 : 0;
            (before, next) = (found, acked + 2);
        }

        return fired;
    }
}
