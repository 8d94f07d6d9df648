using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Keys and values looked through on the host, before anything is done with them: for what a step's append finds on the device.</summary>
internal static class FiniteCheck
{
    /// <summary>Refuses numbers that the page formats do not hold.</summary>
    /// <param name="shape">Formats of the pages.</param>
    /// <param name="keys"><c>[layers][tokens][KV heads][key width]</c>.</param>
    /// <param name="values"><c>[layers][tokens][KV heads][value width]</c>.</param>
    /// <param name="tokens">Tokens.</param>
    /// <exception cref="KvNonFiniteException">E004: the first one.</exception>
    public static void ThrowIfRefused(KernelShape shape, ReadOnlySpan<float> keys, ReadOnlySpan<float> values, int tokens)
    {
        KvGeometry geometry = shape.Geometry;
        int key = FirstRefused(keys, shape.KeyRefusedFrom);
        int value = FirstRefused(values, shape.ValueRefusedFrom);
        if (key < 0 && value < 0)
        {
            return;
        }

        bool isValue = key < 0 || (value >= 0 && value / geometry.ValueWidth < key / geometry.KeyWidth);
        int vector = isValue ? value / geometry.ValueWidth : key / geometry.KeyWidth;
        int token = vector / geometry.KvHeads;
        throw new KvNonFiniteException(
            token / tokens, token % tokens, vector % geometry.KvHeads, isValue, BitConverter.UInt32BitsToSingle(isValue ? shape.ValueRefusedFrom : shape.KeyRefusedFrom));
    }

    private static int FirstRefused(ReadOnlySpan<float> elements, uint refusedFrom)
    {
        ReadOnlySpan<uint> bits = MemoryMarshal.Cast<float, uint>(elements);
        for (int i = 0; i < bits.Length; i++)
        {
            if ((bits[i] & 0x7FFFFFFF) >= refusedFrom)
            {
                return i;
            }
        }

        return -1;
    }
}
