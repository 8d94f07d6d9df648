namespace KvCacheGpu.Hosting;

/// <summary>One session: where it lies, and who has it. Whoever has the turn changes it.</summary>
/// <param name="key">Tenant and id, which are also the name of its snapshot.</param>
internal sealed class Session(SnapshotName key)
{
    /// <summary>Tenant and id.</summary>
    public SnapshotName Key => key;

    /// <summary>One has it at a time.</summary>
    public SemaphoreSlim Turn { get; } = new(1, 1);

    /// <summary>Those that have it or wait for it. The caller is inside of the table's lock.</summary>
    public int Users { get; set; }

    /// <summary>The sequence on the device, or null.</summary>
    public KvSequence? Sequence { get; set; }

    /// <summary>The sequence in host memory, or null.</summary>
    public KvSwapped? Swapped { get; set; }

    /// <summary>True if it has changed since it was saved or loaded.</summary>
    public bool IsChanged { get; set; }

    /// <summary>When it was given back last, in the clock's timestamps.</summary>
    public long LastUsed { get; set; }

    /// <summary>True if there is nothing of it here; there may be in the folder.</summary>
    public bool IsEmpty => Sequence is null && Swapped is null;

    /// <summary>Forgets a sequence that the host has disposed.</summary>
    public void ForgetIfDisposed()
    {
        try
        {
            _ = Sequence?.Length;
        }
        catch (ObjectDisposedException)
        {
            Sequence = null;
        }
    }
}
