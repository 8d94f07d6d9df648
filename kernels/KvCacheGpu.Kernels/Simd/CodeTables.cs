namespace KvCacheGpu.Kernels;

/// <summary>
/// Boundaries of <see cref="Levels"/> as kernels search them. Numbers are sorted into 32 buckets, so narrow that each holds one boundary at
/// most: as many levels lie below a number as there are boundaries in lower buckets, plus one above the bucket's own.
/// <code>
///   bounds  f32[32]  the bucket's boundary, or infinity
///   below   i32[32]  boundaries in lower buckets
///   squares f32[16]  level * level, from the lowest level up
///   all     f32[15]  the boundaries, for vectors that cannot look up 32 entries
/// </code>
/// </summary>
internal static unsafe class CodeTables
{
    public const int Below = 32;
    public const int Squares = 64;
    public const int All = 80;

    /// <summary>Buckets from a level of n to one of n + 1: a bucket is 8 wide. A power of two, so that no rounding puts a number on the wrong side.</summary>
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
            table[..Below].Fill(float.PositiveInfinity);
            for (int i = 0; i < last; i++)
            {
                float boundary = Levels.Boundary(bits, i);
                int bucket = BitConverter.SingleToInt32Bits((boundary * BucketsPerLevel) + BucketBias) & 31;
                table[All + i] = table[bucket] = boundary;
                for (int above = bucket + 1; above < Below; above++)
                {
                    table[Below + above] = BitConverter.Int32BitsToSingle(i + 1);
                }
            }

            for (int i = 0; i <= last; i++)
            {
                float level = Levels.Of(bits)[Levels.Code(bits, i)];
                table[Squares + i] = level * level;
            }
        }

        return tables;
    }
}
