using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>
/// <see cref="Levels"/> as device code has them: constants of a function (kernels cannot read the host's arrays), laid out in shared
/// memory when a kernel starts, so that a level costs one load without bank conflicts.
/// </summary>
internal static class LevelTable
{
    /// <summary>Shared floats of a table.</summary>
    public const int Size = 16;

    /// <summary>Level <paramref name="i"/> in <paramref name="bits"/> bits; the tables are odd about their middle.</summary>
    public static float Level(int bits, int i)
    {
        int half = 1 << (bits - 1);
        int k = i < half ? half - 1 - i : i - half;
        float magnitude = bits == 4 ? Four(k) : bits == 3 ? Three(k) : Two(k);
        return i < half ? -magnitude : magnitude;
    }

    /// <summary>levels[1 &lt;&lt; bits]. The caller synchronises.</summary>
    public static void Fill(ArrayView<float> levels, int bits)
    {
        for (int i = Group.IdxX; i < 1 << bits; i += Group.DimX)
        {
            levels[i] = Level(bits, i);
        }
    }

    /// <summary>boundaries[(1 &lt;&lt; bits) - 1], equal bit for bit to <see cref="Levels.Boundary"/>. The caller synchronises.</summary>
    public static void FillBoundaries(ArrayView<float> boundaries, int bits)
    {
        for (int i = Group.IdxX; i < (1 << bits) - 1; i += Group.DimX)
        {
            boundaries[i] = (Level(bits, i) + Level(bits, i + 1)) * 0.5f;
        }
    }

    /// <summary>How many boundaries lie below z: a search of <paramref name="bits"/> steps.</summary>
    public static uint Code(int bits, float z, ArrayView<float> boundaries)
    {
        int code = 0;
        if (bits == 4)
        {
            code += z > boundaries[7] ? 8 : 0;
        }

        if (bits >= 3)
        {
            code += z > boundaries[code + 3] ? 4 : 0;
        }

        code += z > boundaries[code + 1] ? 2 : 0;
        code += z > boundaries[code] ? 1 : 0;
        return (uint)code;
    }

    private static float Two(int k) => k == 0 ? 0.452780035f : 1.51041761f;

    private static float Three(int k)
    {
        float low = k == 0 ? 0.245094179f : 0.756005281f;
        float high = k == 2 ? 1.34390928f : 2.1519457f;
        return k < 2 ? low : high;
    }

    private static float Four(int k)
    {
        float low = k == 0 ? 0.12839503f : 0.388048299f;
        low = k < 2 ? low : k == 2 ? 0.656759119f : 0.942340456f;
        float high = k == 4 ? 1.2562312f : 1.61804639f;
        high = k < 6 ? high : k == 6 ? 2.06901723f : 2.73258957f;
        return k < 4 ? low : high;
    }
}
