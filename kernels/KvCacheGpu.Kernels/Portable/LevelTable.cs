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

    /// <summary>The level of a code in <paramref name="bits"/> bits: its top bit says that it is positive, the others which magnitude it has.</summary>
    public static float Level(int bits, int code)
    {
        int half = 1 << (bits - 1);
        int k = code & (half - 1);
        float magnitude = bits == 4 ? Four(k) : bits == 3 ? Three(k) : Two(k);
        return code < half ? -magnitude : magnitude;
    }

    /// <summary><see cref="Levels.Unit"/>.</summary>
    public static float Unit(int bits) => bits == 4 ? 41.86f : bits == 3 ? 50.9f : 78.45f;

    /// <summary><see cref="Levels.Step"/>.</summary>
    public static float Step(int bits) => 1f / Unit(bits);

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
            boundaries[i] = Boundary(bits, i);
        }
    }

    /// <summary><see cref="Levels.Boundary"/>.</summary>
    public static float Boundary(int bits, int i) => (Level(bits, Flip(bits, i)) + Level(bits, Flip(bits, i + 1))) * 0.5f;

    /// <summary>The code of z: a search of <paramref name="bits"/> steps for how many boundaries lie below it.</summary>
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
        return (uint)Flip(bits, code);
    }

    // Of a count of levels from below a code, and back: magnitudes of negative levels fall.
    private static int Flip(int bits, int i) => i < 1 << (bits - 1) ? (1 << (bits - 1)) - 1 - i : i;

    private static float Two(int k) => k == 0 ? 35.5f : 118.5f;

    private static float Three(int k)
    {
        float low = k == 0 ? 12.5f : 38.5f;
        float high = k == 2 ? 68.5f : 109.5f;
        return k < 2 ? low : high;
    }

    private static float Four(int k)
    {
        float low = k == 0 ? 5.5f : 16.5f;
        low = k < 2 ? low : k == 2 ? 27.5f : 39.5f;
        float high = k == 4 ? 52.5f : 67.5f;
        high = k < 6 ? high : k == 6 ? 86.5f : 114.5f;
        return k < 4 ? low : high;
    }
}
