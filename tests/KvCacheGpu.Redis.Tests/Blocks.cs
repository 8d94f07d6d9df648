using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;

namespace KvCacheGpu.Redis.Tests;

/// <summary>Made-up blocks whose bytes follow from their keys.</summary>
internal static class Blocks
{
    public static BlockHash[] Keys(string name, int count, int first = 0) =>
        [.. Enumerable.Range(first, count).Select(i => BlockHash.Of(Encoding.UTF8.GetBytes($"{name} {i}")))];

    /// <summary>The bytes of a block.</summary>
    public static byte[] Of(BlockHash key, int length)
    {
        ulong state = BinaryPrimitives.ReadUInt64LittleEndian(Convert.FromHexString(key.ToString()));
        byte[] block = new byte[(length + 7) & ~7];
        foreach (ref ulong word in MemoryMarshal.Cast<byte, ulong>(block.AsSpan()))
        {
            state += 0x9E3779B97F4A7C15;
            ulong z = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9;
            word = z ^ (z >> 27);
        }

        return block[..length];
    }

    public static byte[] Of(BlockHash[] keys, int length) => [.. keys.SelectMany(key => Of(key, length))];

    /// <summary>Reads a run, and checks what was read.</summary>
    /// <returns>How many blocks were read.</returns>
    public static async Task<int> ReadAsync(KvTier tier, BlockHash[] keys, int length)
    {
        byte[] room = new byte[keys.Length * length];
        Array.Fill(room, (byte)0xDB);
        int read = await tier.ReadAsync(keys, room);
        Assert.Equal(Of(keys[..read], length), room[..(read * length)]);
        return read;
    }

    public static ValueTask<int> WriteAsync(KvTier tier, BlockHash[] keys, int length) => tier.WriteAsync(keys, Of(keys, length));
}
