namespace KvCacheGpu.Kernels;

/// <summary>
/// Boundaries of <see cref="Levels"/> as kernels search them. Numbers are sorted into 32 buckets, so narrow that each holds one boundary at
/// most: a number has one code up to the bucket's boundary, and another above it.
/// <code>
///   bounds  f32[32]  the bucket's boundary, or infinity
///   both    i32[32]  the code up to the bucket's boundary, and that above it 8 bits higher
///   squares f32[16]  level * level of each code, whatever lies above its lowest four bits
///   all     f32[15]  the boundaries, for vectors that cannot look up 32 entries
/// </code>
/// </summary>
internal static unsafe class CodeTables
{
    public const int Both = 32;
    public const int Squares = 64;
    public const int All = 80;

    /// <summary>Where the code above a bucket's boundary lies.</summary>
    public const int BitsToAbove = 8;

    /// <summary>Buckets in a distance of 1 between levels. A power of two, so that no rounding puts a number on the wrong side.</summary>
    public const float BucketsPerLevel = 1f / 8;

    /// <summary>1.5 * 2^23 + 16: added to a number of buckets it leaves the bucket in the low five bits, 16 for zero.</summary>
    public const float BucketBias = 12582928f;

    /// <summary>Numbers are clamped to +- this: beyond every boundary, inside the buckets.</summary>
    public const float Clamp = 120f;

    private const int Entries = 96;

    // Pinned for the life of the process.
    private static readonly float[] Tables = Create();

    public static float* Of(int bits) => (float*)System.Runtime.InteropServices.Marshal.UnsafeAddrOfPinnedArrayElement(Tables, Entries * (bits - 2));

    private static float[] Create()
    {
        float[] tables = GC.AllocateArray<float>(3 * Entries, pinned: true);
        for (int bits = 2; bits <= 4; bits++)
        {
            Span<float> table = tables.AsSpan(Entries * (bits - 2), Entries);
            int last = (1 << bits) - 1;
            table[..Both].Fill(float.PositiveInfinity);
            for (int i = 0; i < last; i++)
            {
                float boundary = Levels.Boundary(bits, i);
                table[All + i] = table[BucketOf(boundary)] = boundary;
            }

            for (int bucket = 0, below = 0; bucket < Both; bucket++)
            {
                int code = Levels.Code(bits, below);
                below += float.IsFinite(table[bucket]) ? 1 : 0;
                table[Both + bucket] = BitConverter.Int32BitsToSingle(code | (Levels.Code(bits, below) << BitsToAbove));
            }

            for (int code = 0; code < All - Squares; code++)
            {
                float level = Levels.Of(bits)[code & last];
                table[Squares + code] = level * level;
            }
        }

        return tables;
    }

    private static int BucketOf(float boundary) => BitConverter.SingleToInt32Bits((boundary * BucketsPerLevel) + BucketBias) & 31;
}
