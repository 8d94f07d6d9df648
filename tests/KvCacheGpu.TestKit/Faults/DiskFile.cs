namespace KvCacheGpu.TestKit;

/// <summary>A file's bytes as programs see them, and what of them a power loss would certainly leave.</summary>
internal sealed class DiskFile
{
    private const int Sector = 512;

    private readonly List<(long Offset, byte[] Bytes)> _unsynced = [];
    private byte[] _durable = [];
    private byte[] _seen = [];

    public long Length => _seen.Length;

    public int Mode { get; set; } = 0x180;

    /// <summary>The user and group that it belongs to.</summary>
    public FileOwner Owner { get; set; }

    public bool IsLocked { get; set; }

    public bool HasUnsynced => _unsynced.Count > 0;

    public int Read(Span<byte> bytes, long offset)
    {
        int count = (int)Math.Min(bytes.Length, Math.Max(0, _seen.Length - offset));
        _seen.AsSpan((int)Math.Min(offset, _seen.Length), count).CopyTo(bytes);
        return count;
    }

    public void Write(ReadOnlySpan<byte> bytes, long offset)
    {
        _unsynced.Add((offset, bytes.ToArray()));
        Put(ref _seen, bytes, offset);
    }

    public void Sync()
    {
        _durable = [.. _seen];
        _unsynced.Clear();
    }

    /// <summary>A sync that fails: what was to be written is forgotten, and the next sync will say that all is well.</summary>
    public void Forget() => _unsynced.Clear();

    /// <summary>The file after a power loss: what was synced, and of the rest some sectors, in any order, over zeros or over junk.</summary>
    public DiskFile AfterPowerLoss(Random random)
    {
        var survivor = new DiskFile { _durable = [.. _durable], Mode = Mode, Owner = Owner };
        if (HasUnsynced)
        {
            int luck = random.Next(4);
            bool hasLength = random.Next(2) == 0;
            if (hasLength && _seen.Length > survivor._durable.Length)
            {
                byte[] junk = new byte[_seen.Length - survivor._durable.Length];
                if (random.Next(2) == 0)
                {
                    random.NextBytes(junk);
                }

                survivor._durable = [.. survivor._durable, .. junk];
            }

            (long Offset, byte[] Bytes)[] writes = [.. _unsynced];
            random.Shuffle(writes);
            foreach ((long offset, byte[] bytes) in writes)
            {
                for (int at = 0; at < bytes.Length; at += Sector)
                {
                    if (random.Next(4) < luck)
                    {
                        Put(ref survivor._durable, bytes.AsSpan(at, Math.Min(Sector, bytes.Length - at)), offset + at);
                    }
                }
            }
        }

        survivor._seen = [.. survivor._durable];
        return survivor;
    }

    /// <summary>Alters one bit, as a disk does that nobody wrote to.</summary>
    public void Flip(long bit) => _seen[bit / 8] ^= (byte)(1 << (int)(bit % 8));

    public void Replace(byte[] bytes) => _seen = bytes;

    public byte[] ToArray() => [.. _seen];

    public DiskFile Copy() => new() { _durable = [.. _seen], _seen = [.. _seen], Mode = Mode, Owner = Owner };

    private static void Put(ref byte[] target, ReadOnlySpan<byte> bytes, long offset)
    {
        if (offset + bytes.Length > target.Length)
        {
            Array.Resize(ref target, (int)(offset + bytes.Length));
        }

        bytes.CopyTo(target.AsSpan((int)offset));
    }
}
