using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace KvCacheGpu.Hosting.Tests;

/// <summary>What goes wrong with one session, or with a host's end, costs no other session anything.</summary>
public sealed class SessionFailureTests : SessionHosts
{
    [Fact]
    public async Task A_shutdown_whose_time_is_used_up_still_saves_what_was_given_back()
    {
        using IHost host = await StartAsync(options => options.Sessions.Directory = Folder);
        await FillAsync(Of(host), "a", 1);
        await FillAsync(Of(host), "b", 2);
        KvSessionLease kept = await Of(host).RentAsync(null, "kept");
        await Keeper(host).CloseAsync(new CancellationToken(canceled: true));
        Assert.Equal(["Cache default has closed its sessions: 2 saved, 1 not"], Lines.Of(10));
        await kept.DisposeAsync();
    }

    [Fact]
    public async Task What_is_given_back_while_another_is_waited_for_is_saved()
    {
        using IHost host = await StartAsync(options => options.Sessions.Directory = Folder);
        KvSessionLease kept = await Of(host).RentAsync(null, "kept"), late = await Of(host).RentAsync(null, "late");
        late.Sequence.Feed(1);
        using var cancel = new CancellationTokenSource();
        Task closing = Keeper(host).CloseAsync(cancel.Token);
        await late.DisposeAsync();
        await cancel.CancelAsync();
        await closing;
        Assert.Equal(["Cache default has closed its sessions: 1 saved, 1 not"], Lines.Of(10));
        await kept.DisposeAsync();
    }

    [Fact]
    public async Task A_session_that_was_cut_to_nothing_is_saved_as_such()
    {
        using (IHost host = await StartAsync(options => options.Sessions.Directory = Folder))
        {
            await FillAsync(Of(host), "a", 1, 2);
            await Of(host).SaveAsync();
            await using (KvSessionLease lease = await Of(host).RentAsync(null, "a"))
            {
                lease.Sequence.Truncate(0);
            }

            await host.StopAsync();
            Assert.Equal(["Cache default has closed its sessions: 1 saved, 0 not"], Lines.Of(10));
        }

        using IHost next = await StartAsync(options => options.Sessions.Directory = Folder);
        await using KvSessionLease again = await Of(next).RentAsync(null, "a");
        Assert.Equal((false, 0), (again.IsNew, again.Sequence.Length));
    }

    [Fact]
    public async Task A_damaged_session_can_be_removed_and_keeps_no_other_from_loading()
    {
        using (IHost host = await StartAsync(options => options.Sessions.Directory = Folder))
        {
            await FillAsync(Of(host), "a", 1, 2);
            await Of(host).SaveAsync();
            foreach (string file in Directory.GetFiles(Folder, "*MANIFEST*"))
            {
                File.WriteAllText(file, "damaged");
            }

            await FillAsync(Of(host), "b", 3);
            await host.StopAsync();
        }

        using IHost next = await StartAsync(options => options.Sessions.Directory = Folder);
        await Assert.ThrowsAsync<KvCorruptionException>(() => Of(next).RentAsync(null, "a"));
        await using (KvSessionLease other = await Of(next).RentAsync(null, "b"))
        {
            Assert.Equal([3], other.Sequence.TokenIds.ToArray());
        }

        Assert.True(await Of(next).RemoveAsync(null, "a"));
        await using KvSessionLease again = await Of(next).RentAsync(null, "a");
        Assert.True(again.IsNew);
    }

    [Fact]
    public async Task One_that_cannot_be_saved_keeps_no_other_from_it()
    {
        using IHost host = await StartAsync(options => options.Sessions.Directory = Folder);
        await FillAsync(Of(host), "a", 1);
        await FillAsync(Of(host), "b", 2);
        await using (KvSessionLease lease = await Of(host).RentAsync(null, "a"))
        {
            _ = lease.Sequence.Begin([3]);
        }

        await Assert.ThrowsAsync<KvConcurrencyException>(() => Of(host).SaveAsync());
        Assert.Contains("session b of", Assert.Single(Lines.Of(6)), StringComparison.Ordinal);
        Assert.Single(Lines.Of(9));
    }

    [Fact]
    public async Task Saving_leaves_sessions_where_they_are()
    {
        using IHost host = await StartAsync(options => options.Sessions.Directory = Folder);
        await FillAsync(Of(host), "below", 1, 2, 3);
        Clock.Move(TimeSpan.FromHours(1));
        await SweepAsync(host);
        await FillAsync(Of(host), "here", 4);
        Assert.Equal(2, await Of(host).SaveAsync());
        Assert.Equal(new KvSessionCounts(0, 1, 1), Of(host).Counts);
    }

    [Fact]
    public async Task A_folder_that_cannot_be_written_to_fails_the_start()
    {
        string file = Path.Combine(Folder, "file");
        await File.WriteAllTextAsync(file, string.Empty);
        foreach (string wrong in (string[])[file, Path.Combine(Folder, "no", "parent"), "/proc/sessions"])
        {
            KvConfigurationException error = await Assert.ThrowsAsync<KvConfigurationException>(() => StartAsync(options => options.Sessions.Directory = wrong));
            Assert.Equal("Sessions.Directory", error.Setting);
        }

        using IHost made = await StartAsync(options => options.Sessions.Directory = Path.Combine(Folder, "made"));
        Assert.Equal(["sessions.lock"], Directory.GetFileSystemEntries(Path.Combine(Folder, "made")).Select(Path.GetFileName));
    }

    [Fact]
    public async Task Two_caches_do_not_share_a_folder()
    {
        using IHost host = Hosts.Make(services =>
        {
            foreach (string name in (string[])["a", "b"])
            {
                services.AddKvCache(name, options =>
                {
                    Hosts.Small(options);
                    options.Sessions.Directory = name == "a" ? Folder : Path.Combine(Folder, "..", Path.GetFileName(Folder)) + "/";
                });
            }
        });
        Assert.Equal("Sessions.Directory", (await Assert.ThrowsAsync<KvConfigurationException>(() => host.StartAsync())).Setting);
    }

    [Fact]
    public async Task A_host_that_is_disposed_without_having_stopped_sweeps_no_longer()
    {
        var clock = new CountingClock();
        IHost host = await StartAsync(clock: clock);
        for (int i = 0; i < 500 && clock.Timers == 0; i++)
        {
            await Task.Delay(20);
        }

        Assert.Equal(1, clock.Timers);
        host.Dispose();
        for (int i = 0; i < 500 && clock.Timers > 0; i++)
        {
            await Task.Delay(20);
        }

        Assert.Equal(0, clock.Timers);
    }

    private static SessionKeeper Keeper(IHost host) => host.Services.GetRequiredKeyedService<SessionKeeper>(string.Empty);

    private sealed class CountingClock : TimeProvider
    {
        private int _timers;

        public int Timers => Volatile.Read(ref _timers);

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            Interlocked.Increment(ref _timers);
            return new Counted(base.CreateTimer(callback, state, dueTime, period), () => Interlocked.Decrement(ref _timers));
        }

        private sealed class Counted(ITimer inner, Action gone) : ITimer
        {
            private Action? _gone = gone;

            public bool Change(TimeSpan dueTime, TimeSpan period) => inner.Change(dueTime, period);

            public void Dispose()
            {
                inner.Dispose();
                Interlocked.Exchange(ref _gone, null)?.Invoke();
            }

            public ValueTask DisposeAsync()
            {
                Dispose();
                return ValueTask.CompletedTask;
            }
        }
    }
}
