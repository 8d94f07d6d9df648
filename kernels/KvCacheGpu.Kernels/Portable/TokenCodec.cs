using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>One vector out of a page and into one, by a group. Every thread calls; an element is one thread's until a barrier.</summary>
/// <remarks>
/// Codes are the same bits on every tier: sums over elements in the order of <see cref="Levels"/>, and no product goes
/// straight into an addition, where a compiler would fuse them (<see cref="PortableMath.Apart"/>, or a barrier between).
/// </remarks>
internal static class TokenCodec
{
    private const uint Infinity = 0x7C00;

    /// <summary>Token t of a page -> x, in the basis in which it lies.</summary>
    public static void Load<TCodec>(ArrayView<int> page, PartDims part, int t, ArrayView<float> x, ArrayView<float> levels)
        where TCodec : struct, IPortableCodec
    {
        float scale = default(TCodec).Scales is Scaling.Vector or Scaling.Gain ? Chunk.Half(page, part.Scales, t) : 1f;
        if (default(TCodec).Scales == Scaling.Vector && default(TCodec).LevelBits > 0)
        {
            scale *= LevelTable.Step(default(TCodec).LevelBits);
        }

        float gain = default(TCodec).Scales == Scaling.Gain ? Chunk.Half(page, part.Scales + part.PlaneWords, t) : 1f;
        for (int i = Group.IdxX; i < part.Width; i += Group.DimX)
        {
            int j = Chunk.Index<TCodec>(i);
            int w = Chunk.Of<TCodec>(i) * default(TCodec).WordsPerChunk;
            int low = page[part.At(t, w + default(TCodec).LowWord(j))];
            int high = default(TCodec).WordsPerChunk > 2 ? page[part.At(t, w + 2)] : 0;
            float element = default(TCodec).Decode(low, high, j, levels);
            if (default(TCodec).Scales == Scaling.Vector)
            {
                element *= scale;
            }

            if (default(TCodec).Scales == Scaling.Gain)
            {
                element = (Chunk.Half(page, part.Mean, i) + PortableMath.Apart(element * gain)) * scale;
            }

            if (default(TCodec).Scales == Scaling.Group)
            {
                int plane = part.Scales + (i / part.ScaleGroup * 2 * part.PlaneWords);
                element = PortableMath.Apart(Chunk.Half(page, plane, t) * element) + Chunk.Half(page, plane + part.PlaneWords, t);
            }

            if (default(TCodec).Scales == Scaling.Block)
            {
                element *= Chunk.Half(page, part.Scales + (i / 32 * part.PlaneWords), t);
            }

            x[i] = element;
        }

        Group.Barrier();
    }

    /// <summary>From the source's basis to the target's, of which those of T formats are under a row's key scales.</summary>
    /// <param name="x">The vector.</param>
    /// <param name="width">Its elements.</param>
    /// <param name="signs">As <see cref="DeviceSigns.View"/> holds them.</param>
    /// <param name="vector">Which of its vectors the row's is: 0 where it has no scales, and T formats lie in the basis of I8.</param>
    /// <param name="norm"><see cref="Rotation.Norm"/>.</param>
    public static void ChangeBasis<TSource, TTarget>(ArrayView<float> x, int width, ArrayView<float> signs, int vector, float norm)
        where TSource : struct, IPortableCodec
        where TTarget : struct, IPortableCodec
    {
        bool isApart = default(TSource).Scales == Scaling.Gain != (default(TTarget).Scales == Scaling.Gain) && vector != 0;
        if (default(TSource).IsRotated && (!default(TTarget).IsRotated || isApart))
        {
            SharedVector.Undo(x, width, signs, default(TSource).Scales == Scaling.Gain ? vector * width : 0, norm);
        }

        if (default(TTarget).Scales == Scaling.Gain && (!default(TSource).IsRotated || isApart))
        {
            SharedVector.RotateKeys(x, width, signs, vector * width, norm);
        }
        else if (default(TTarget).IsRotated && (!default(TSource).IsRotated || isApart))
        {
            SharedVector.Rotate(x, width, signs, 0, norm);
        }
    }

    /// <summary>
    /// True if an element of x keeps its page from being written in the target's format: it is NaN or an infinity, or it comes from full
    /// precision and is beyond the power of two above the target's largest number.
    /// </summary>
    public static bool IsRefused<TSource, TTarget>(ArrayView<float> x, int width)
        where TSource : struct, IPortableCodec
        where TTarget : struct, IPortableCodec
    {
        bool refused = false;
        for (int i = Group.IdxX; i < width; i += Group.DimX)
        {
            refused |= PortableMath.IsNotFinite(x[i]);
            if (default(TSource).Scales == Scaling.None && default(TTarget).Scales == Scaling.None)
            {
                refused |= (Interop.FloatAsInt(x[i]) & 0x7FFFFFFF) > (default(TTarget).Largest | 0x7FFFFF) + 1;
            }
        }

        return refused;
    }

    /// <summary>x divided by its rms; returns that in binary16.</summary>
    public static uint Normalize(TokenScratch s, int width)
    {
        uint bits = RootMeanSquare(s, width);
        float inverse = Inverse(bits);
        for (int i = Group.IdxX; i < width; i += Group.DimX)
        {
            s.X[i] = PortableMath.Apart(s.X[i] * inverse);
        }

        return bits;
    }

    /// <summary>x -> token t of a page in any but a T format. False where a scale is beyond binary16.</summary>
    public static bool Store<TTarget>(ArrayView<int> page, PartDims part, int t, TokenScratch s)
        where TTarget : struct, IPortableCodec
    {
        uint bits = 0;
        if (default(TTarget).Scales == Scaling.Vector)
        {
            bits = default(TTarget).LevelBits > 0
                ? RootMeanSquare(s, part.Width)
                : Bits16.HalfRoundUpFromSingleBits(Interop.FloatAsInt(AbsoluteMax(s, part.Width) / 127f));
            PutScale(s.Scales, 0, t, bits);
        }

        bool isHeld = bits < Infinity;
        if (default(TTarget).Scales == Scaling.Group)
        {
            isHeld = ScaleGroups(s, part, t);
        }

        if (default(TTarget).Scales == Scaling.Block)
        {
            isHeld = ScaleBlocks<TTarget>(s, part, t);
        }

        float inverse = Inverse(bits, default(TTarget).LevelBits > 0 ? LevelTable.Unit(default(TTarget).LevelBits) : 1f);
        for (int i = Group.IdxX; i < part.Width; i += Group.DimX)
        {
            float x = s.X[i];
            if (default(TTarget).Scales == Scaling.None && (Interop.FloatAsInt(x) & 0x7FFFFFFF) > default(TTarget).Largest)
            {
                // A rounding error beyond the largest number of the format: append refused anything larger.
                x = Interop.IntAsFloat((Interop.FloatAsInt(x) & 0x80000000) | default(TTarget).Largest);
            }

            int first = i / part.ScaleGroup * part.ScaleGroup;
            float offset = default(TTarget).Scales == Scaling.Group ? s.Y[first] : 0f;
            inverse = default(TTarget).Scales is Scaling.Group or Scaling.Block ? s.Z[first] : inverse;
            s.Codes[i] = (int)default(TTarget).Code(x, offset, inverse, s.Boundaries);
        }

        Group.Barrier();
        Pack<TTarget>(page, part, t, s.Codes);
        return isHeld;
    }

    /// <summary>x, which is e of <see cref="Levels"/> -> token t of keys in a T format, whose rms is given.</summary>
    public static void StoreLevels<TTarget>(ArrayView<int> page, PartDims part, int t, uint rms, TokenScratch s)
        where TTarget : struct, IPortableCodec
    {
        float square = SharedVector.SquareSum(s.X, s.Y, part.Width);
        float length = MathF.Sqrt(square);
        float inverse = square > 0f ? MathF.Sqrt(part.Width) * LevelTable.Unit(default(TTarget).LevelBits) / length : 0f;
        for (int i = Group.IdxX; i < part.Width; i += Group.DimX)
        {
            uint code = default(TTarget).Code(s.X[i], 0f, inverse, s.Boundaries);
            s.Codes[i] = (int)code;
            s.Z[i] = s.TargetLevels[(int)code];
        }

        float levels = SharedVector.SquareSum(s.Z, s.Y, part.Width);
        PutScale(s.Scales, 0, t, rms);
        PutScale(s.Scales, 1, t, square > 0f ? PortableMath.Half(length / MathF.Sqrt(levels)) : 0);
        Pack<TTarget>(page, part, t, s.Codes);
    }

    /// <summary>The scales of the pair of tokens that ends with t -> their words.</summary>
    public static void StoreScales(ArrayView<int> page, PartDims part, int t, ArrayView<int> scales)
    {
        for (int p = Group.IdxX; p < part.Planes; p += Group.DimX)
        {
            page[part.Scales + (p * part.PlaneWords) + (t >> 1)] = scales[p];
        }

        Group.Barrier();
    }

    private static uint RootMeanSquare(TokenScratch s, int width) =>
        PortableMath.Half(MathF.Sqrt(SharedVector.SquareSum(s.X, s.Y, width) / width));

    /// <summary>The unit divided by a scale in binary16; 0 where that is 0.</summary>
    public static float Inverse(uint bits, float unit = 1f)
    {
        float scale = PortableMath.Single(bits);
        return scale > 0f ? unit / scale : 0f;
    }

    private static void PutScale(ArrayView<int> scales, int plane, int t, uint bits)
    {
        if (Group.IdxX == 0)
        {
            PutOwn(scales, plane, t, bits);
        }
    }

    private static void PutOwn(ArrayView<int> scales, int plane, int t, uint bits) =>
        scales[plane] = (t & 1) == 0 ? (int)bits : scales[plane] | (int)(bits << 16);

    // y = minimum and z = 1 / scale, at the first element of each group.
    private static bool ScaleGroups(TokenScratch s, PartDims part, int t)
    {
        int group = part.ScaleGroup;
        for (int i = Group.IdxX; i < part.Width; i += Group.DimX)
        {
            s.Y[i] = s.X[i];
            s.Z[i] = s.X[i];
        }

        Group.Barrier();
        for (int stride = SharedVector.HalfOf(group); stride > 0; stride >>= 1)
        {
            for (int i = Group.IdxX; i < part.Width; i += Group.DimX)
            {
                int e = i % group;
                if (e < stride && e + stride < group)
                {
                    s.Y[i] = s.Y[i + stride] < s.Y[i] ? s.Y[i + stride] : s.Y[i];
                    s.Z[i] = s.Z[i + stride] > s.Z[i] ? s.Z[i + stride] : s.Z[i];
                }
            }

            Group.Barrier();
        }

        bool isHeld = true;
        for (int first = Group.IdxX * group; first < part.Width; first += Group.DimX * group)
        {
            // Adding zero makes one of the two zeros, whichever the tree left.
            uint minimum = Bits16.HalfFloorFromSingleBits(Interop.FloatAsInt(s.Y[first] + 0f));
            float offset = PortableMath.Single(minimum);
            uint scale = Bits16.HalfRoundUpFromSingleBits(Interop.FloatAsInt((s.Z[first] - offset) / 15f));
            isHeld &= (minimum & 0x7FFF) < Infinity && scale < Infinity;
            s.Y[first] = offset;
            s.Z[first] = Inverse(scale);
            PutOwn(s.Scales, first / group * 2, t, scale);
            PutOwn(s.Scales, (first / group * 2) + 1, t, minimum);
        }

        Group.Barrier();
        return isHeld;
    }

    // z = 1 / scale at the first element of each block; ggml keeps the scale in binary32 for that.
    private static bool ScaleBlocks<TTarget>(TokenScratch s, PartDims part, int t)
        where TTarget : struct, IPortableCodec
    {
        bool isHeld = true;
        for (int block = Group.IdxX; block < part.Planes; block += Group.DimX)
        {
            float largest = 0f;
            float signed = 0f;
            for (int i = block * 32; i < (block + 1) * 32; i++)
            {
                float magnitude = s.X[i] < 0f ? -s.X[i] : s.X[i];
                signed = magnitude > largest ? s.X[i] : signed;
                largest = magnitude > largest ? magnitude : largest;
            }

            float scale = default(TTarget).IsSplit ? signed / -8f : largest / 127f;
            uint bits = PortableMath.Half(scale);
            isHeld &= (bits & 0x7FFF) < Infinity;
            s.Z[block * 32] = scale == 0f ? 0f : 1f / scale;
            PutOwn(s.Scales, block, t, bits);
        }

        Group.Barrier();
        return isHeld;
    }

    private static void Pack<TTarget>(ArrayView<int> page, PartDims part, int t, ArrayView<int> codes)
        where TTarget : struct, IPortableCodec
    {
        for (int c = Group.IdxX; c < part.Words / default(TTarget).WordsPerChunk; c += Group.DimX)
        {
            uint word0 = 0;
            uint word1 = 0;
            uint word2 = 0;
            for (int j = 0; j < default(TTarget).ElementsPerChunk; j++)
            {
                int e = Chunk.Element<TTarget>(c, j);
                uint code = e < part.Width ? (uint)codes[e] : 0;
                word0 |= default(TTarget).Place(code, j, 0);
                word1 |= default(TTarget).WordsPerChunk > 1 ? default(TTarget).Place(code, j, 1) : 0;
                word2 |= default(TTarget).WordsPerChunk > 2 ? default(TTarget).Place(code, j, 2) : 0;
            }

            int w = c * default(TTarget).WordsPerChunk;
            page[part.At(t, w)] = (int)word0;
            if (default(TTarget).WordsPerChunk > 1)
            {
                page[part.At(t, w + 1)] = (int)word1;
            }

            if (default(TTarget).WordsPerChunk > 2)
            {
                page[part.At(t, w + 2)] = (int)word2;
            }
        }

        Group.Barrier();
    }

    private static float AbsoluteMax(TokenScratch s, int width)
    {
        float largest = 0f;
        for (int i = Group.IdxX; i < width; i += Group.DimX)
        {
            float magnitude = s.X[i] < 0f ? -s.X[i] : s.X[i];
            largest = magnitude > largest ? magnitude : largest;
        }

        s.Red[Group.IdxX] = largest;
        SharedVector.Largest(s.Red, 1);
        return s.Red[0];
    }
}
