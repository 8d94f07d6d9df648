using System.Diagnostics;
using Xunit.Abstractions;

namespace KvCacheGpu.Catalog.Tests;

/// <summary>The database is not there, or goes away in the middle.</summary>
public sealed class OutageTests(ITestOutputHelper output)
{
    private static readonly CatalogOptions Brief = new() { Retries = 2, RetryDelay = TimeSpan.FromMilliseconds(1) };

    // Port 1 of the loopback: nothing listens there.
    [Theory]
    [InlineData("sqlite:/nowhere/at/all/catalog.db")]
    [InlineData("postgres://somebody:s3cret-word@127.0.0.1:1/kv")]
    public async Task A_database_that_is_not_there_is_E008_and_saves_go_on(string address)
    {
        CacheCatalog catalog = new(address, TestDatabase.Provider, Brief);
        CatalogException? error = await catalog.TryRecordAsync(new CatalogEntry { Key = "k" });
        Assert.Equal("E008", error!.Code);
        Assert.DoesNotContain("s3cret", error.ToString(), StringComparison.Ordinal);
        Assert.DoesNotContain('\n', error.Message);
        Assert.Equal("E008", (await Assert.ThrowsAsync<CatalogException>(() => catalog.Schema.MigrateAsync())).Code);
    }

    [Fact]
    public async Task A_file_that_is_no_database_is_E008_and_stays_as_it_is()
    {
        string path = Path.GetTempFileName();
        await File.WriteAllTextAsync(path, new string('x', 4096));
        Assert.Equal("E008", (await Assert.ThrowsAsync<CatalogException>(() => new CatalogSchema("sqlite:" + path, TestDatabase.Provider).MigrateAsync())).Code);
        Assert.Equal(new string('x', 4096), await File.ReadAllTextAsync(path));
        File.Delete(path);
    }

    [Fact]
    public async Task A_file_that_another_holds_is_waited_for_then_E008()
    {
        await using TestDatabase database = await TestDatabase.CreateAsync("sqlite");
        CacheCatalog catalog = await database.CatalogAsync(new CatalogOptions { Retries = 0, Timeout = TimeSpan.FromSeconds(1) });
        CatalogDatabase other = database.Open();
        await using System.Data.Common.DbConnection connection = await other.OpenAsync(CancellationToken.None);
        await using (await other.BeginWriteAsync(connection, CancellationToken.None))
        {
            Assert.Equal("E008", (await catalog.TryRecordAsync(new CatalogEntry { Key = "k" }))!.Code);
        }

        Assert.Null(await catalog.TryRecordAsync(new CatalogEntry { Key = "k" }));
    }

    [PostgresRestartFact]
    public async Task A_server_killed_in_the_middle_loses_no_acknowledged_entry()
    {
        await using TestDatabase database = await TestDatabase.CreateAsync("postgres");
        CacheCatalog catalog = await database.CatalogAsync(new CatalogOptions { Retries = 8 });
        List<string>[] acknowledged = [[], [], []];
        int refused = 0;
        using CancellationTokenSource stop = new();
        Task[] writers = [.. acknowledged.Select((mine, w) => Task.Run(async () =>
        {
            for (int i = 0; !stop.IsCancellationRequested; i++)
            {
                string key = $"{w}-{i}";
                if (await catalog.TryRecordAsync(new CatalogEntry { Key = key, Session = $"{w}" }) is CatalogException error)
                {
                    Assert.Equal("E008", error.Code);
                    Interlocked.Increment(ref refused);
                }
                else
                {
                    mine.Add(key);
                }
            }
        }))];
        List<int> between = [];
        for (int round = 0; round < 3; round++)
        {
            between.Add(await MoreThan(between.LastOrDefault()));
            await RestartAsync();
        }

        await MoreThan(between[^1]);
        await stop.CancelAsync();
        await Task.WhenAll(writers);

        HashSet<string> there = [];
        await foreach (CatalogEntry entry in catalog.ListAllAsync())
        {
            there.Add(entry.Key);
        }

        int count = acknowledged.Sum(a => a.Count);
        output.WriteLine($"{count} acknowledged, {refused} refused as E008; before each kill: {string.Join(", ", between)}");
        Assert.All(acknowledged.SelectMany(a => a), key => Assert.Contains(key, there));
        Assert.InRange(between[0], 1, count - 1);
        Assert.InRange(between[2], between[0] + 1, count - 1);

        // There is no time limit, because a slow machine is no error.
        async Task<int> MoreThan(int before)
        {
            while (acknowledged.Sum(a => a.Count) <= before && !writers.Any(writer => writer.IsCompleted))
            {
                await Task.Delay(20);
            }

            return acknowledged.Sum(a => a.Count);
        }
    }

    [PostgresRestartFact]
    public async Task A_server_killed_between_two_uses_is_met_again_by_a_retry()
    {
        await using TestDatabase database = await TestDatabase.CreateAsync("postgres");
        CacheCatalog catalog = await database.CatalogAsync();
        await catalog.RecordAsync(new CatalogEntry { Key = "k" });
        await RestartAsync();
        Assert.NotNull(await catalog.FindAsync("k"));
        Assert.True(await catalog.TouchAsync("k"));
    }

    private static async Task RestartAsync()
    {
        using Process process = Process.Start("/bin/sh", ["-c", TestDatabase.Restart!]);
        await process.WaitForExitAsync();
        Assert.Equal(0, process.ExitCode);
    }
}
