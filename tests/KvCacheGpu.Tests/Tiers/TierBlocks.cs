using System.Runtime.InteropServices;

namespace KvCacheGpu.Tests.Tiers;

/// <summary>Blocks whose content follows from their key, so that any block that is read can be checked.</summary>
internal static class TierBlocks
{
    public static BlockHash Key(int number) => BlockHash.Of(BitConverter.GetBytes(number));

    public static BlockHash[] Keys(params IEnumerable<int> numbers) => [.. numbers.Select(Key)];

    /// <summary>The blocks of some keys, one behind the other.</summary>
    public static byte[] Content(ReadOnlySpan<BlockHash> keys, int length)
    {
        byte[] blocks = new byte[keys.Length * length];
        for (int i = 0; i < keys.Length; i++)
        {
            Fill(keys[i], blocks.AsSpan(i * length, length));
        }

        return blocks;
    }

    /// <summary>Writes a run of blocks.</summary>
    /// <returns>How many the tier has now that it had not before.</returns>
    public static async Task<int> PutAsync(this KvTier tier, int length, params int[] numbers)
    {
        BlockHash[] keys = Keys(numbers);
        return await tier.WriteAsync(keys, Content(keys, length));
    }

    /// <summary>Reads a run of blocks, which must be what their keys say.</summary>
    /// <returns>How many were read.</returns>
    public static async Task<int> GetAsync(this KvTier tier, int length, params int[] numbers)
    {
        BlockHash[] keys = Keys(numbers);
        byte[] found = new byte[keys.Length * length];
        int count = await tier.ReadAsync(keys, found);
        Assert.True(found.AsSpan(0, count * length).SequenceEqual(Content(keys.AsSpan(0, count), length)), $"{tier.Name} gave bytes that are not those of their keys");
        return count;
    }

    /// <summary>Those of some blocks that a tier has, each read by itself.</summary>
    public static async Task<int[]> HeldAsync(this KvTier tier, int length, params IEnumerable<int> numbers)
    {
        List<int> held = [];
        foreach (int number in numbers)
        {
            if (await tier.GetAsync(length, number) == 1)
            {
                held.Add(number);
            }
        }

        return [.. held];
    }

    /// <summary>Insists on which of some blocks a tier has.</summary>
    public static async Task HoldsAsync(this KvTier tier, int length, IEnumerable<int> of, int[] expected)
    {
        int[] held = await tier.HeldAsync(length, of);
        Assert.Equal(expected, held);
    }

    private static void Fill(BlockHash key, Span<byte> block)
    {
        ulong state = MemoryMarshal.Cast<BlockHash, ulong>(new ReadOnlySpan<BlockHash>(in key))[0];
        foreach (ref ulong word in MemoryMarshal.Cast<byte, ulong>(block))
        {
            word = state += 0x9E3779B97F4A7C15;
        }

        block[(block.Length & ~7)..].Fill((byte)state);
    }
}
