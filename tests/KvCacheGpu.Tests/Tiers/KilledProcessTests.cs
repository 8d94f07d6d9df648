using System.Diagnostics;
using KvCacheGpu.TestKit;
using Xunit.Abstractions;

namespace KvCacheGpu.Tests.Tiers;

/// <summary>A process that writes blocks to a real disk is killed at any moment.</summary>
[Collection(WritingChild.Processes)]
public sealed class KilledProcessTests(ITestOutputHelper output) : IDisposable
{
    private const int Kills = 20;

    // Written last, and so within the limit whatever was dropped.
    private const int Last = 30;

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("kvcache-killed-");

    public void Dispose() => _folder.Delete(recursive: true);

    [Fact]
    public async Task After_a_kill_every_block_that_is_read_is_whole_and_what_was_acknowledged_is_there()
    {
        string folder = Path.Combine(_folder.FullName, "tier");
        var random = new Random(7);
        int next = 0, fired = 0, read = 0, beyond = 0;
        for (int kill = 0; kill < FaultTally.Slice(Kills, 2_000); kill++)
        {
            using Process child = WritingChild.Start(folder, next);
            string? line = child.StandardOutput.ReadLine();
            Assert.True(line is not null, $"the child wrote nothing: {(line is null ? child.StandardError.ReadToEnd() : null)}");
            Thread.SpinWait(random.Next(3_000_000));
            child.Kill();
            int acknowledged = next;
            for (; line is not null; line = child.StandardOutput.ReadLine())
            {
                // The last line may be cut by the kill.
                acknowledged = int.TryParse(line, out int said) && said == acknowledged + 3 ? said : acknowledged;
            }

            child.WaitForExit();
            fired += child.ExitCode == 128 + 9 ? 1 : 0;
            using var tier = new KvDiskTier(folder, WritingChild.Limit);
            Assert.InRange(tier.BytesInUse!.Value, 1, WritingChild.Limit);
            for (int number = Math.Max(0, acknowledged - 400); number < acknowledged + 3; number++)
            {
                int found = await tier.GetAsync(WritingChild.LengthOf(number), number);
                read += found;
                beyond += number >= acknowledged ? found : 0;
                Assert.True(found == 1 || number < acknowledged - Last || number >= acknowledged, $"kill {kill}: block {number} of {acknowledged} is gone");
            }

            Assert.Equal((0L, null), (tier.Counts.Errors, tier.Counts.LastError));
            next = acknowledged;
        }

        output.WriteLine($"{read} blocks read, {beyond} of them not acknowledged");
        FaultTally.Report(output, "kill -9 of a process that writes blocks", fired, Kills);
    }
}
