using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>Operations on vectors in shared memory by a whole group of threads: every thread of the group calls.</summary>
internal static class SharedVector
{
    /// <summary>
    /// x' = H D x, equal bit for bit to <see cref="Rotation.Apply"/>; <paramref name="norm"/> is <see cref="Rotation.Norm"/>. D are the signs from <paramref name="first"/> on, which may
    /// be divided by key scales.
    /// </summary>
    public static void Rotate(ArrayView<float> x, int width, ArrayView<float> signs, int first, float norm)
    {
        for (int i = Group.IdxX; i < width; i += Group.DimX)
        {
            x[i] = x[i] * signs[first + i];
        }

        Group.Barrier();
        Transform(x, width, norm);
    }

    /// <summary>Multiplies keys by the scales that the signs from <paramref name="first"/> on are divided by, and rotates them.</summary>
    public static void RotateKeys(ArrayView<float> x, int width, ArrayView<float> signs, int first, float norm)
    {
        for (int i = Group.IdxX; i < width; i += Group.DimX)
        {
            x[i] = x[i] * PortableMath.InverseOfPower(signs[first + i]);
        }

        Group.Barrier();
        Transform(x, width, norm);
    }

    /// <summary>x = D H x', with the signs from <paramref name="first"/> on: those of a row's keys take its scales away too.</summary>
    public static void Undo(ArrayView<float> x, int width, ArrayView<float> signs, int first, float norm)
    {
        Transform(x, width, norm);
        for (int i = Group.IdxX; i < width; i += Group.DimX)
        {
            x[i] = x[i] * signs[first + i];
        }

        Group.Barrier();
    }

    /// <summary>
    /// Divides each query by a power of two, so that no sum of products leaves binary32: to below 1 where keys lie within 65536, which
    /// rotated queries exceed by 23 at most; by 2^11 more where keys go up to 2^128, of which there are 576. Smaller queries stay as they are.
    /// </summary>
    /// <param name="q">q[count][stride], with a barrier since it was written.</param>
    /// <param name="largest">Room: [count][DimX].</param>
    /// <param name="exponents">Out, [2][count]: exponents of the raw logits that the softmax takes, and of those before a cap.</param>
    /// <param name="count">Queries.</param>
    /// <param name="stride">Elements of a query with its padding.</param>
    /// <param name="keyRefusedFrom"><see cref="KernelShape.KeyRefusedFrom"/>: how large keys may be.</param>
    /// <param name="logits">How products become logits.</param>
    public static void Normalize(
        ArrayView<float> q, ArrayView<float> largest, ArrayView<float> exponents, int count, int stride, uint keyRefusedFrom, LogitDims logits)
    {
        int headroom = keyRefusedFrom > PortableMath.LargestNarrow ? 11 : 0;
        for (int r = 0; r < count; r++)
        {
            float most = 0f;
            for (int d = Group.IdxX; d < stride; d += Group.DimX)
            {
                float magnitude = q[(r * stride) + d] < 0f ? -q[(r * stride) + d] : q[(r * stride) + d];
                most = magnitude > most ? magnitude : most;
            }

            largest[(r * Group.DimX) + Group.IdxX] = most;
        }

        Largest(largest, count);
        for (int r = 0; r < count; r++)
        {
            int exponent = PortableMath.ExponentAbove(largest[r * Group.DimX]) + headroom;
            exponent = exponent < 0 ? 0 : exponent;
            float scale = PortableMath.PowerOf(-exponent / 2) * PortableMath.PowerOf((-exponent) - (-exponent / 2));
            for (int d = Group.IdxX; d < stride; d += Group.DimX)
            {
                q[(r * stride) + d] = q[(r * stride) + d] * scale;
            }

            if (Group.IdxX == 0)
            {
                exponents[r] = logits.Cap != 0f ? 0 : exponent + logits.Exponent;
                exponents[count + r] = exponent + logits.Exponent;
            }
        }

        Group.Barrier();
    }

    /// <summary>Leaves in <c>red[r * DimX]</c> the largest of each of the <c>red[count][DimX]</c>.</summary>
    public static void Largest(ArrayView<float> red, int count)
    {
        Group.Barrier();
        for (int stride = HalfOf(Group.DimX); stride > 0; stride >>= 1)
        {
            if (Group.IdxX < stride && Group.IdxX + stride < Group.DimX)
            {
                for (int r = 0; r < count; r++)
                {
                    int at = (r * Group.DimX) + Group.IdxX;
                    float other = red[at + stride];
                    red[at] = other > red[at] ? other : red[at];
                }
            }

            Group.Barrier();
        }
    }

    /// <summary>Leaves in <c>red[r * DimX]</c> the sum of each of the <c>red[count][DimX]</c>.</summary>
    public static void Sum(ArrayView<float> red, int count)
    {
        Group.Barrier();
        for (int stride = HalfOf(Group.DimX); stride > 0; stride >>= 1)
        {
            if (Group.IdxX < stride && Group.IdxX + stride < Group.DimX)
            {
                for (int r = 0; r < count; r++)
                {
                    int at = (r * Group.DimX) + Group.IdxX;
                    red[at] = red[at] + red[at + stride];
                }
            }

            Group.Barrier();
        }
    }

    /// <summary>
    /// The sum of x's squares, in the order that <see cref="Levels"/> defines, bit for bit: the padding there adds zeros, which change nothing.
    /// Overwrites <c>squares[width]</c>; x may be written again afterwards.
    /// </summary>
    public static float SquareSum(ArrayView<float> x, ArrayView<float> squares, int width)
    {
        for (int i = Group.IdxX; i < width; i += Group.DimX)
        {
            squares[i] = x[i] * x[i];
        }

        Group.Barrier();
        for (int half = HalfOf(width); half > 0; half >>= 1)
        {
            for (int i = Group.IdxX; i < half && i + half < width; i += Group.DimX)
            {
                squares[i] = squares[i] + squares[i + half];
            }

            Group.Barrier();
        }

        float sum = squares[0];
        Group.Barrier();
        return sum;
    }

    // Pairs (i, i + half) for all i whose bit `half` is clear, numbered densely so that threads share them evenly.
    private static void Transform(ArrayView<float> x, int width, float norm)
    {
        int block = width & -width;
        for (int half = 1; half < block; half <<= 1)
        {
            for (int pair = Group.IdxX; pair < width >> 1; pair += Group.DimX)
            {
                int i = ((pair & ~(half - 1)) << 1) | (pair & (half - 1));
                float a = x[i];
                float b = x[i + half];
                x[i] = a + b;
                x[i + half] = a - b;
            }

            Group.Barrier();
        }

        for (int i = Group.IdxX; i < width; i += Group.DimX)
        {
            x[i] = x[i] * norm;
        }

        Group.Barrier();
    }

    /// <summary>The power of two at or above half of n; 0 for one.</summary>
    public static int HalfOf(int n)
    {
        int half = 1;
        while (half * 2 < n)
        {
            half *= 2;
        }

        return n > 1 ? half : 0;
    }
}
