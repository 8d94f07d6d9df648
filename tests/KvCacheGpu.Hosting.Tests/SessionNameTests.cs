using Microsoft.Extensions.Hosting;

namespace KvCacheGpu.Hosting.Tests;

/// <summary>Ids and tenants: any text is a session of its own, and no file outside of the folder.</summary>
public sealed class SessionNameTests : SessionHosts
{
    public static TheoryData<string> NastyIds =>
    [
        "../../etc/passwd", "..", ".", "/", "a/b", "a\\b", "C:\\x", "con", "a:b", "a\0b", " ", "\t\n", "*?", "a'; drop table sessions", "%2e%2e%2f", "é", "e\u0301", "🙂", "LOCK", "CURRENT",
        new string('x', 5000), "A", "a", "acme/chat", "null",
    ];

    [Theory]
    [MemberData(nameof(NastyIds))]
    public async Task Any_id_is_a_session_of_its_own_and_a_file_in_the_folder(string id)
    {
        string inside = Path.Combine(Folder, "inside");
        using (IHost host = await StartAsync(options => options.Sessions.Directory = inside))
        {
            await FillAsync(Of(host), id, 1, 2, 3);
            await using (KvSessionLease tenant = await Of(host).RentAsync(id, "chat"))
            {
                tenant.Sequence.Feed(7);
            }

            await host.StopAsync();
        }

        Assert.Equal([inside], Directory.GetFileSystemEntries(Folder));
        Assert.All(Directory.GetFileSystemEntries(inside), path => Assert.Matches("^(LOCK|sessions\\.lock|[0-9a-f]{64}\\.(CURRENT|MANIFEST-[0-9a-f]{16}|BLOCKS-[0-9a-f]{16}))$", Path.GetFileName(path)));
        using IHost next = await StartAsync(options => options.Sessions.Directory = inside);
        await using KvSessionLease lease = await Of(next).RentAsync(null, id);
        await using KvSessionLease ofTenant = await Of(next).RentAsync(id, "chat");
        await using KvSessionLease swapped = await Of(next).RentAsync("chat", id);
        Assert.Equal((3, 1, true), (lease.Sequence.Length, ofTenant.Sequence.Length, swapped.IsNew));
    }

    [Fact]
    public async Task Tenants_never_see_each_others_sessions()
    {
        (string? Tenant, string Id)[] all = [(null, "a"), ("", "a"), ("a", "a"), ("b", "a"), ("a/a", "a"), ("a", "a/a"), ("A", "a")];
        using (IHost host = await StartAsync(options => (options.Sessions.Directory, options.Cache.MaxSequences) = (Folder, 8)))
        {
            foreach ((string? tenant, string id) in all)
            {
                await using KvSessionLease lease = await Of(host).RentAsync(tenant, id);
                Assert.True(lease.IsNew, $"{tenant} {id}");
                lease.Sequence.Feed([.. Enumerable.Repeat(5, 1 + Array.IndexOf(all, (tenant, id)))]);
            }

            await host.StopAsync();
        }

        using IHost next = await StartAsync(options => (options.Sessions.Directory, options.Cache.MaxSequences) = (Folder, 8));
        foreach ((string? tenant, string id) in all)
        {
            await using KvSessionLease lease = await Of(next).RentAsync(tenant, id);
            Assert.Equal((1 + Array.IndexOf(all, (tenant, id)), tenant), (lease.Sequence.Length, lease.Sequence.Options.Tenant));
        }
    }

    [Fact]
    public async Task What_no_snapshot_can_be_called_is_refused()
    {
        using IHost host = await StartAsync();
        foreach ((string? tenant, string id) in ((string?, string)[])[(null, ""), (null, "\ud800"), ("\ud800", "a"), ("a", new string('x', 1 << 17))])
        {
            await Assert.ThrowsAnyAsync<ArgumentException>(() => Of(host).RentAsync(tenant, id));
        }

        Assert.Equal(default, Of(host).Counts);
    }
}
