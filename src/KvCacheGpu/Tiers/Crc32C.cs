using System.Numerics;
using System.Runtime.InteropServices;

namespace KvCacheGpu;

/// <summary>CRC-32C (Castagnoli), the checksum of iSCSI and ext4, which processors compute.</summary>
internal static class Crc32C
{
    /// <summary>The checksum of some bytes: of "123456789" it is E3069283.</summary>
    public static uint Of(ReadOnlySpan<byte> bytes)
    {
        uint sum = uint.MaxValue;
        ReadOnlySpan<ulong> words = MemoryMarshal.Cast<byte, ulong>(bytes);
        foreach (ulong word in words)
        {
            sum = BitOperations.Crc32C(sum, word);
        }

        foreach (byte one in bytes[(words.Length * sizeof(ulong))..])
        {
            sum = BitOperations.Crc32C(sum, one);
        }

        return ~sum;
    }
}
