using System.Security.Cryptography;

namespace KvCacheGpu;

/// <summary>Options of a store: key, trust, workers.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
public sealed record SnapshotOptions
{
    /// <summary>Encrypts what is saved, by AES-256-GCM. The default value is null: plain.</summary>
    public SnapshotKey? Key { get; init; }

    /// <summary>True if a store with a key loads plain snapshots too. The default value is false: anybody who can put a plain one there chooses its content.</summary>
    public bool AcceptsPlain { get; init; }

    /// <summary>
    /// True if a store's directory may be one that every user writes to, or another user's. The default value is false: anybody who writes to it can put
    /// other snapshots in the place of these, or keep everyone from saving. Set it for file systems that know no permissions.
    /// </summary>
    public bool AcceptsSharedDirectory { get; init; }

    /// <summary>
    /// Blocks that are compressed or decompressed at once, 1..64; 1 does everything on the calling thread. The default value is the
    /// processors' count. The buffers take (this + 2) * 2 blocks (<see cref="BlockBytes"/>, or one page where that is larger).
    /// </summary>
    public int Workers { get; init; } = Math.Clamp(Environment.ProcessorCount, 1, 64);

    /// <summary>Decoded bytes of a block, 512 bytes to 8 MiB; a block of pages holds at least one. The default value is 1 MiB.</summary>
    public int BlockBytes { get; init; } = 1 << 20;

    internal TimeProvider Clock { get; init; } = TimeProvider.System;

    internal Action<byte[]> FillRandom { get; init; } = bytes => RandomNumberGenerator.Fill(bytes);

    internal SnapshotOptions Checked()
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(Workers, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(Workers, 64);
        ArgumentOutOfRangeException.ThrowIfLessThan(BlockBytes, 512);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(BlockBytes, SnapshotLimits.BlockBytes);
        return this;
    }
}
