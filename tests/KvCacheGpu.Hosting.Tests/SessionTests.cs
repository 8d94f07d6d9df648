using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace KvCacheGpu.Hosting.Tests;

/// <summary>Sessions by tenant and id: rented one at a time, kept over idle times and restarts.</summary>
public sealed class SessionTests : SessionHosts
{
    [Fact]
    public async Task A_session_goes_on_where_it_was_given_back()
    {
        using IHost host = await StartAsync();
        IKvSessions sessions = Of(host);
        await using (KvSessionLease lease = await sessions.RentAsync("acme", "chat"))
        {
            Assert.Equal(("acme", "chat", true, "acme", 0), (lease.Tenant, lease.Id, lease.IsNew, lease.Sequence.Options.Tenant, lease.Sequence.Length));
            lease.Sequence.Feed(1, 2, 3);
            Assert.Equal(new KvSessionCounts(1, 0, 0), sessions.Counts);
        }

        Assert.Equal(new KvSessionCounts(0, 1, 0), sessions.Counts);
        KvSessionLease again = await sessions.RentAsync("acme", "chat");
        Assert.Equal((false, 3), (again.IsNew, again.Sequence.Length));
        await again.DisposeAsync();
        await again.DisposeAsync();
        Assert.Throws<ObjectDisposedException>(() => again.Sequence);
        Assert.Equal(new KvSessionCounts(0, 1, 0), sessions.Counts);
    }

    [Fact]
    public async Task One_has_a_session_at_a_time_and_who_waits_may_give_up()
    {
        using IHost host = await StartAsync();
        IKvSessions sessions = Of(host);
        KvSessionLease first = await sessions.RentAsync(null, "a");
        using var cancel = new CancellationTokenSource();
        Task<KvSessionLease> impatient = sessions.RentAsync(null, "a", cancel.Token);
        Task<KvSessionLease> patient = sessions.RentAsync(null, "a");
        Assert.False(impatient.IsCompleted || patient.IsCompleted);
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => impatient);
        Assert.False(patient.IsCompleted);
        first.Sequence.Feed(1);
        await first.DisposeAsync();
        await using KvSessionLease second = await patient;
        Assert.Equal(1, second.Sequence.Length);

        // Another session is nobody's to wait for.
        await using KvSessionLease other = await sessions.RentAsync(null, "b");
        Assert.True(other.IsNew);
    }

    [Fact]
    public async Task Many_at_once_never_share_a_session()
    {
        using IHost host = await StartAsync();
        IKvSessions sessions = Of(host);
        int[] inside = new int[3];
        await Task.WhenAll(Enumerable.Range(0, 60).Select(i => Task.Run(async () =>
        {
            int which = i % 3;
            await using KvSessionLease lease = await sessions.RentAsync(null, $"{which}");
            Assert.Equal(1, Interlocked.Increment(ref inside[which]));
            lease.Sequence.Feed(i);
            Interlocked.Decrement(ref inside[which]);
        })));
        for (int which = 0; which < 3; which++)
        {
            await using KvSessionLease lease = await sessions.RentAsync(null, $"{which}");
            Assert.Equal(20, lease.Sequence.Length);
            Assert.All(lease.Sequence.TokenIds.ToArray(), id => Assert.Equal(which, id % 3));
        }
    }

    [Fact]
    public async Task An_idle_session_goes_to_host_memory_and_comes_back_whole()
    {
        using IHost host = await StartAsync(options => options.Sessions.IdleAfter = TimeSpan.FromMinutes(5));
        IKvSessions sessions = Of(host);
        KvCache cache = host.Services.GetRequiredService<KvCache>();
        await FillAsync(sessions, "old", 1, 2, 3, 4, 5, 6, 7, 8, 9);
        Clock.Move(TimeSpan.FromMinutes(4));
        await FillAsync(sessions, "new", 7);
        KvSessionLease rented = await sessions.RentAsync(null, "rented");
        await SweepAsync(host);
        Assert.Equal(new KvSessionCounts(1, 2, 0), sessions.Counts);
        Clock.Move(TimeSpan.FromMinutes(1));
        await SweepAsync(host);
        Assert.Equal(new KvSessionCounts(1, 1, 1), sessions.Counts);
        Assert.True(cache.GetSwappedBytes() > 0);
        Assert.Equal([$"Cache default: session old of tenant (null) left the device, {cache.GetSwappedBytes()} bytes"], Lines.Of(7));
        await rented.DisposeAsync();
        await using KvSessionLease back = await sessions.RentAsync(null, "old");
        Assert.Equal([1, 2, 3, 4, 5, 6, 7, 8, 9], back.Sequence.Content());
        Assert.Equal((0L, false), (cache.GetSwappedBytes(), back.IsNew));
    }

    [Fact]
    public async Task The_host_sweeps_by_itself()
    {
        using IHost host = await StartAsync(options => options.Sessions.IdleAfter = TimeSpan.FromMilliseconds(20), TimeProvider.System);
        IKvSessions sessions = Of(host);
        await FillAsync(sessions, "a", 1, 2, 3);
        for (int i = 0; i < 1000 && sessions.Counts.Swapped == 0; i++)
        {
            await Task.Delay(20);
        }

        Assert.Equal(new KvSessionCounts(0, 0, 1), sessions.Counts);
        await host.StopAsync();
    }

    [Fact]
    public async Task Where_host_memory_is_used_up_the_folder_is_below()
    {
        using IHost host = await StartAsync(options =>
        {
            (options.Cache.SwapBudgetBytes, options.Sessions.Directory) = (0, Folder);
        });
        IKvSessions sessions = Of(host);
        await FillAsync(sessions, "a", 1, 2, 3);
        Clock.Move(TimeSpan.FromHours(1));
        await SweepAsync(host);
        Assert.Equal(default, sessions.Counts);
        Assert.Equal(["Cache default: session a of tenant (null) was saved, 3 tokens"], Lines.Of(6));
        await using KvSessionLease back = await sessions.RentAsync(null, "a");
        Assert.Equal([1, 2, 3], back.Sequence.Content());
        Assert.Equal(["Cache default: session a of tenant (null) was loaded, 3 tokens"], Lines.Of(5));
    }

    [Fact]
    public async Task Without_room_below_an_idle_session_stays()
    {
        using IHost host = await StartAsync(options => options.Cache.SwapBudgetBytes = 0);
        await FillAsync(Of(host), "a", 1, 2, 3);
        Clock.Move(TimeSpan.FromHours(1));
        await SweepAsync(host);
        Assert.Equal(new KvSessionCounts(0, 1, 0), Of(host).Counts);
    }

    [Fact]
    public async Task Sessions_that_were_used_longest_ago_make_room_and_those_that_somebody_has_never()
    {
        using IHost host = await StartAsync();
        IKvSessions sessions = Of(host);
        foreach (string id in (string[])["a", "b", "c", "d"])
        {
            await FillAsync(sessions, id, 1, 2);
            Clock.Move(TimeSpan.FromSeconds(1));
        }

        await using KvSessionLease a = await sessions.RentAsync(null, "a");
        await using KvSessionLease e = await sessions.RentAsync(null, "e");
        Assert.Contains("session b of", Assert.Single(Lines.Of(7)), StringComparison.Ordinal);
        Assert.True(await sessions.MakeRoomAsync());
        Assert.Contains("session c of", Lines.Of(7)[1], StringComparison.Ordinal);
        await using KvSessionLease b = await sessions.RentAsync(null, "b");
        await using KvSessionLease d = await sessions.RentAsync(null, "d");
        Assert.False(await sessions.MakeRoomAsync());
        KvOutOfMemoryException refused = await Assert.ThrowsAsync<KvOutOfMemoryException>(() => sessions.RentAsync(null, "f"));
        Assert.Equal(KvResource.Sequences, refused.Shortage.Resource);
        Assert.Equal(["Cache default has no room for a session: Sequences is short"], Lines.Of(8));
        Assert.Equal(new KvSessionCounts(4, 0, 1), sessions.Counts);
    }

    [Fact]
    public async Task Sessions_are_saved_when_the_host_stops_and_loaded_when_they_are_asked_for()
    {
        using (IHost host = await StartAsync(options => options.Sessions.Directory = Folder))
        {
            IKvSessions sessions = Of(host);
            await FillAsync(sessions, "resident", 1, 2, 3);
            await FillAsync(sessions, "swapped", 4, 5, 6, 7, 8);
            Clock.Move(TimeSpan.FromHours(1));
            await SweepAsync(host);
            await FillAsync(sessions, "resident", 9);
            Assert.Equal(new KvSessionCounts(0, 1, 1), sessions.Counts);
            KvSessionLease open = await sessions.RentAsync("acme", "open");
            open.Sequence.Feed(11);
            Task stopping = host.StopAsync();
            Assert.False(stopping.IsCompleted);
            await open.DisposeAsync();
            await stopping;
            Assert.Equal(["Cache default has closed its sessions: 3 saved, 0 not"], Lines.Of(10));
            await Assert.ThrowsAsync<ObjectDisposedException>(() => sessions.RentAsync(null, "resident"));
        }

        using IHost next = await StartAsync(options => options.Sessions.Directory = Folder);
        foreach ((string? tenant, string id, int[] ids) in ((string?, string, int[])[])[(null, "resident", [1, 2, 3, 9]), (null, "swapped", [4, 5, 6, 7, 8]), ("acme", "open", [11])])
        {
            await using KvSessionLease lease = await Of(next).RentAsync(tenant, id);
            Assert.Equal(ids, lease.Sequence.TokenIds.ToArray());
            Assert.Equal(ids, lease.Sequence.Content());
            Assert.Equal((false, tenant), (lease.IsNew, lease.Sequence.Options.Tenant));
        }
    }

    [Fact]
    public async Task A_lease_that_never_comes_back_is_not_waited_for_without_end()
    {
        using IHost host = await StartAsync(options => options.Sessions.Directory = Folder);
        KvSessionLease kept = await Of(host).RentAsync(null, "kept");
        await FillAsync(Of(host), "good", 1);
        using var cancel = new CancellationTokenSource(TimeSpan.FromMilliseconds(300));
        await host.Services.GetRequiredKeyedService<SessionKeeper>(string.Empty).CloseAsync(cancel.Token);
        Assert.Equal(["Cache default has closed its sessions: 1 saved, 1 not"], Lines.Of(10));
        await kept.DisposeAsync();
    }

    [Fact]
    public async Task A_new_session_that_stays_empty_leaves_no_trace()
    {
        using IHost host = await StartAsync(options => options.Sessions.Directory = Folder);
        await (await Of(host).RentAsync(null, "a")).DisposeAsync();
        Assert.Equal((default, 0), (Of(host).Counts, await Of(host).SaveAsync()));
        await using KvSessionLease again = await Of(host).RentAsync(null, "a");
        Assert.True(again.IsNew);
    }

    [Fact]
    public async Task Saving_saves_what_has_changed_once()
    {
        using IHost host = await StartAsync(options => options.Sessions.Directory = Folder);
        IKvSessions sessions = Of(host);
        await FillAsync(sessions, "a", 1, 2);
        await FillAsync(sessions, "b", 3);
        Assert.Equal(2, await sessions.SaveAsync());
        Assert.Equal(0, await sessions.SaveAsync());
        await FillAsync(sessions, "b", 4);
        Assert.Equal(1, await sessions.SaveAsync());
        Assert.Equal(new KvSessionCounts(0, 2, 0), sessions.Counts);
    }

    [Fact]
    public async Task Removed_is_removed_everywhere()
    {
        using IHost host = await StartAsync(options => options.Sessions.Directory = Folder);
        IKvSessions sessions = Of(host);
        await FillAsync(sessions, "saved", 1, 2);
        await sessions.SaveAsync();
        await FillAsync(sessions, "swapped", 1, 2);
        Clock.Move(TimeSpan.FromHours(1));
        await SweepAsync(host);
        await FillAsync(sessions, "resident", 1, 2);
        foreach (string id in (string[])["saved", "swapped", "resident"])
        {
            Assert.True(await sessions.RemoveAsync(null, id));
            Assert.False(await sessions.RemoveAsync(null, id));
        }

        Assert.Equal((default, 0L), (sessions.Counts, host.Services.GetRequiredService<KvCache>().GetSwappedBytes()));
        await using KvSessionLease lease = await sessions.RentAsync(null, "saved");
        Assert.True(lease.IsNew);
    }

    [Fact]
    public async Task A_sequence_that_the_host_disposed_is_the_last_saved_one_again()
    {
        using IHost host = await StartAsync(options => options.Sessions.Directory = Folder);
        IKvSessions sessions = Of(host);
        await FillAsync(sessions, "a", 1, 2);
        await sessions.SaveAsync();
        await using (KvSessionLease lease = await sessions.RentAsync(null, "a"))
        {
            lease.Sequence.Feed(3);
            lease.Sequence.Dispose();
        }

        Assert.Equal(default, sessions.Counts);
        await using KvSessionLease again = await sessions.RentAsync(null, "a");
        Assert.Equal([1, 2], again.Sequence.TokenIds.ToArray());
    }

    [Fact]
    public async Task A_damaged_session_is_an_error_and_not_an_empty_one()
    {
        using (IHost host = await StartAsync(options => options.Sessions.Directory = Folder))
        {
            await FillAsync(Of(host), "a", 1, 2);
            await host.StopAsync();
        }

        foreach (string file in Directory.GetFiles(Folder, "*MANIFEST*"))
        {
            File.WriteAllText(file, "damaged");
        }

        using IHost next = await StartAsync(options => options.Sessions.Directory = Folder);
        await Assert.ThrowsAsync<KvCorruptionException>(() => Of(next).RentAsync(null, "a"));
        Assert.Equal(default, Of(next).Counts);
    }

    [Fact]
    public async Task A_tenants_quota_moves_the_tenants_own_sessions_alone()
    {
        using IHost host = await StartAsync(options =>
            (options.Sessions.Directory, options.Cache.TenantQuotas) = (Folder, new Dictionary<string, KvTenantQuota> { ["acme"] = new KvTenantQuota { Tokens = 10 } }));
        IKvSessions sessions = Of(host);
        await using (KvSessionLease saved = await sessions.RentAsync("acme", "saved"))
        {
            saved.Sequence.Feed(1, 2, 3, 4, 5, 6);
        }

        await sessions.SaveAsync();
        Assert.True(await sessions.MakeRoomAsync());
        await FillAsync(sessions, "other", 1);
        await using (KvSessionLease second = await sessions.RentAsync("acme", "second"))
        {
            second.Sequence.Feed(1, 2, 3, 4, 5, 6);
        }

        await using KvSessionLease first = await sessions.RentAsync("acme", "saved");
        Assert.Equal(6, first.Sequence.Length);
        Assert.Equal(new KvSessionCounts(1, 1, 1), sessions.Counts);
    }
}
