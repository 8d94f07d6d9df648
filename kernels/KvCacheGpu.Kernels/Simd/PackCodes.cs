using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace KvCacheGpu.Kernels;

/// <summary>Codes of a vector, one to a byte, in and out of the words that <see cref="PageLayout"/> draws.</summary>
internal static unsafe class PackCodes
{
    private const ulong Nibbles = 0x0F0F0F0F0F0F0F0F;
    private const ulong EvenNibbles = 0x000F000F000F000F;
    private const ulong Pairs = 0x0303030303030303;
    private const ulong Thirds = 0x0404040404040404;
    private const uint FirstThirds = 0x33333333;

    /// <summary>Bytes that a vector's codes take: padded to 32, a multiple of the codes that each format packs at once.</summary>
    public static int BytesFor(int width) => (width + 31) & ~31;

    /// <summary>Packs; the codes between width and <see cref="BytesFor"/> are zeros.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Pack(PageFormat format, byte* codes, int width, int* words)
    {
        switch (format)
        {
            case PageFormat.T4:
                for (int i = 0; i < width; i += 32, codes += 32, words += 4)
                {
                    PackNibbles(codes, words);
                }

                break;
            case PageFormat.T2 or PageFormat.V2:
                for (int i = 0; i < width; i += 16, codes += 16, words++)
                {
                    *words = PackPairs(codes);
                }

                break;
            case PageFormat.T3 or PageFormat.V3:
                for (int i = 0; i < width; i += 32, codes += 32, words += 3)
                {
                    for (int k = 0; k < 4; k++)
                    {
                        ((ushort*)words)[k] = (ushort)Gather(((ulong*)codes)[k], Pairs);
                    }

                    uint first = Gather(((ulong*)codes)[0], Thirds) | (Gather(((ulong*)codes)[1], Thirds) << 8);
                    uint second = Gather(((ulong*)codes)[2], Thirds) | (Gather(((ulong*)codes)[3], Thirds) << 8);
                    words[2] = (int)((uint)Scatter(first, FirstThirds) | ((uint)Scatter(second, FirstThirds) << 2));
                }

                break;
            case PageFormat.V4:
                for (int i = 0; i < width; i += 16, codes += 16, words += 2)
                {
                    PackSplitNibbles(codes, words);
                }

                break;
            case PageFormat.Q4:
                for (int i = 0; i < width; i += 32, codes += 32, words += 4)
                {
                    ((ulong*)words)[0] = ((ulong*)codes)[0] | (((ulong*)codes)[2] << 4);
                    ((ulong*)words)[1] = ((ulong*)codes)[1] | (((ulong*)codes)[3] << 4);
                }

                break;
            default:
                NativeMemory.Copy(codes, words, (nuint)width);
                break;
        }
    }

    // 32 codes, two neighbours in each byte.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void PackNibbles(byte* codes, int* words)
    {
        Vector128<ushort> low = Vector128.Load((ushort*)codes), high = Vector128.Load((ushort*)codes + 8);
        Vector128.Narrow(Neighbours(low), Neighbours(high)).Store((byte*)words);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<ushort> Neighbours(Vector128<ushort> pairs) => (pairs | Vector128.ShiftRightLogical(pairs, 4)) & Vector128.Create((ushort)0xFF);

    // 16 codes, four neighbours in each byte.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int PackPairs(byte* codes)
    {
        Vector128<uint> x = Vector128.Load((uint*)codes);
        x |= Vector128.ShiftRightLogical(x, 6);
        x |= Vector128.ShiftRightLogical(x, 12);
        return Vector128.Shuffle(x.AsByte(), Vector128.Create((byte)0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12)).AsInt32().ToScalar();
    }

    // 16 codes: those of even elements in one word, those of odd ones in the next.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void PackSplitNibbles(byte* codes, int* words)
    {
        Vector128<uint> x = Vector128.Load((uint*)codes);
        x |= Vector128.ShiftRightLogical(x, 12);
        Vector128<byte> split = Vector128.Shuffle(x.AsByte(), Vector128.Create((byte)0, 4, 8, 12, 1, 5, 9, 13, 0, 4, 8, 12, 1, 5, 9, 13));
        *(ulong*)words = split.AsUInt64().ToScalar();
    }

    /// <summary>Unpacks; room for <see cref="BytesFor"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Unpack(PageFormat format, int* words, int width, byte* codes)
    {
        switch (format)
        {
            case PageFormat.T4:
                for (int w = 0; w < width / 8; w++)
                {
                    ((ulong*)codes)[w] = Scatter((uint)words[w], Nibbles);
                }

                break;
            case PageFormat.T2 or PageFormat.V2:
                for (int i = 0, count = format.Words(width) * 2; i < count; i++)
                {
                    ((ulong*)codes)[i] = Scatter(((ushort*)words)[i], Pairs);
                }

                break;
            case PageFormat.T3 or PageFormat.V3:
                for (int i = 0; i < width; i += 32, codes += 32, words += 3)
                {
                    uint first = Gather((uint)words[2], FirstThirds), second = Gather((uint)words[2] >> 2, FirstThirds);
                    uint thirds = first | (second << 16);
                    for (int k = 0; k < 4; k++, thirds >>= 8)
                    {
                        ((ulong*)codes)[k] = Scatter(((ushort*)words)[k], Pairs) | Scatter(thirds & 0xFF, Thirds);
                    }
                }

                break;
            case PageFormat.V4:
                for (int i = 0; i < width; i += 16, codes += 16, words += 2)
                {
                    var halves = (ushort*)words;
                    ((ulong*)codes)[0] = Scatter(halves[0], EvenNibbles) | (Scatter(halves[2], EvenNibbles) << 8);
                    ((ulong*)codes)[1] = Scatter(halves[1], EvenNibbles) | (Scatter(halves[3], EvenNibbles) << 8);
                }

                break;
            case PageFormat.Q4:
                for (int i = 0; i < width; i += 32, codes += 32, words += 4)
                {
                    for (int k = 0; k < 2; k++)
                    {
                        ulong both = ((ulong*)words)[k];
                        ((ulong*)codes)[k] = both & Nibbles;
                        ((ulong*)codes)[k + 2] = (both >> 4) & Nibbles;
                    }
                }

                break;
            default:
                NativeMemory.Copy(words, codes, (nuint)width);
                break;
        }
    }

    // The bits under the mask, side by side.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint Gather(ulong bytes, ulong mask)
    {
        if (Bmi2.X64.IsSupported)
        {
            return (uint)Bmi2.X64.ParallelBitExtract(bytes, mask);
        }

        uint packed = 0;
        for (int bit = 0; mask != 0; bit++, mask &= mask - 1)
        {
            packed |= (uint)((bytes >> System.Numerics.BitOperations.TrailingZeroCount(mask)) & 1) << bit;
        }

        return packed;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Scatter(uint packed, ulong mask)
    {
        if (Bmi2.X64.IsSupported)
        {
            return Bmi2.X64.ParallelBitDeposit(packed, mask);
        }

        ulong bytes = 0;
        for (; mask != 0; packed >>= 1, mask &= mask - 1)
        {
            bytes |= (ulong)(packed & 1) << System.Numerics.BitOperations.TrailingZeroCount(mask);
        }

        return bytes;
    }
}
