namespace KvCacheGpu;

/// <summary>
/// Copies pages to the device before an attention asks for them, on a thread of the pool: what the layer that comes next read last time. A new request takes the place of the one before, and an attention ends it:
/// what is missing then it brings itself.
/// </summary>
internal sealed class PagesAhead(PageStage stage)
{
    // An attention that begins waits for no more than this to be copied.
    private const int BytesAtOnce = 1 << 20;

    private readonly Lock _lock = new();
    private HostPage[]? _next;
    private Task _work = Task.CompletedTask;
    private bool _isWorking;
    private bool _isStopped;
    private int _version;

    /// <summary>True if all has come that was asked for.</summary>
    public bool IsIdle
    {
        get
        {
            lock (_lock)
            {
                return !_isWorking;
            }
        }
    }

    /// <summary>Asks for pages, in the order in which they are needed.</summary>
    public void Ask(HostPage[] pages)
    {
        lock (_lock)
        {
            _next = pages;
            _version++;
            if (!_isWorking && !_isStopped)
            {
                _isWorking = true;
                _work = Task.Run(Work);
            }
        }
    }

    /// <summary>Ends what was asked for.</summary>
    /// <returns>True if some of it had not come yet.</returns>
    public bool Cancel()
    {
        lock (_lock)
        {
            _next = null;
            _version++;
            return _isWorking;
        }
    }

    /// <summary>Ends all work; nothing is asked for afterwards.</summary>
    public void Stop()
    {
        lock (_lock)
        {
            _isStopped = true;
            _next = null;
            _version++;
        }

        _work.Wait();
    }

    private void Work()
    {
        while (true)
        {
            HostPage[] pages;
            int version;
            lock (_lock)
            {
                if (_next is null)
                {
                    _isWorking = false;
                    return;
                }

                (pages, version, _next) = (_next, _version, null);
            }

            try
            {
                for (int first = 0, count; first < pages.Length && Volatile.Read(ref _version) == version; first += count)
                {
                    count = Math.Clamp(BytesAtOnce / (pages[first].Words.Length * sizeof(int)), 1, pages.Length - first);
                    using (stage.Gate.Enter())
                    {
                        stage.BringAhead(pages.AsSpan(first, count));
                    }
                }
            }
#pragma warning disable CA1031 // A guess must not end the process: whatever fails here, fails again where the page is needed, and is told there.
            catch
#pragma warning restore CA1031
            {
                Cancel();
            }
        }
    }
}
