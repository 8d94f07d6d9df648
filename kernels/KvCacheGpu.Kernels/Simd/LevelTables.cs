using System.Runtime.InteropServices;

namespace KvCacheGpu.Kernels;

/// <summary>
/// <see cref="Levels"/> as kernels look them up: each table repeated over 16 entries, so that bits above a code in a shifted word
/// need not be masked off.
/// </summary>
internal static unsafe class LevelTables
{
    private const int Entries = 16;

    private static readonly float* Tables = Create();

    /// <summary>int32[16]: where a lane finds its nibble, when pairs of lanes hold the two words of 16 elements.</summary>
    public static int* NibbleMasks => (int*)Tables + (3 * Entries);

    /// <summary>f32[16]: factors that bring a nibble, masked in its place, down to its code.</summary>
    public static float* NibbleScales => Tables + (4 * Entries);

    /// <summary>int8[16]: the levels of 4-bit codes less a half, which are whole.</summary>
    public static byte* Bytes => (byte*)(Tables + (5 * Entries));

    /// <summary>f32[16], for codes of 2, 3 or 4 bits; for other formats something readable.</summary>
    public static float* Of(int bits) => Tables + (Entries * (bits is >= 2 and <= 4 ? bits - 2 : 0));

    private static float* Create()
    {
        // Lives as long as the process.
        var tables = (float*)NativeMemory.AlignedAlloc(6 * Entries * sizeof(float), 64);
        for (int i = 0; i < 3 * Entries; i++)
        {
            ReadOnlySpan<float> levels = Levels.Of(2 + (i / Entries));
            tables[i] = levels[i % levels.Length];
        }

        for (int lane = 0; lane < Entries; lane++)
        {
            ((sbyte*)(tables + (5 * Entries)))[lane] = (sbyte)(Levels.Of(4)[lane] - 0.5f);
            ((int*)tables)[(3 * Entries) + lane] = 0xF << (4 * (lane / 2));
            tables[(4 * Entries) + lane] = MathF.ScaleB(1f, -4 * (lane / 2));
        }

        return tables;
    }
}
