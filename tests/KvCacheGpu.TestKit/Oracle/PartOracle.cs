using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>
/// A page's keys or values in a format: binary32 operation by operation as the formats fix it, but by recursion, tables
/// and the runtime's own binary16. A kernel's codes, scales and digest must be these bits.
/// </summary>
public static class PartOracle
{
    /// <summary>Encodes a part.</summary>
    /// <param name="format">The format to encode to.</param>
    /// <param name="source">Vectors by token, in the basis of <paramref name="isRotated"/>.</param>
    /// <param name="isRotated">True if they lie in the rotated basis already.</param>
    /// <param name="seed">The rotation's seed.</param>
    /// <param name="hasDigest">True if mean and deviation are wanted.</param>
    public static PartCodes Encode(PageFormat format, float[][] source, bool isRotated, ulong seed, bool hasDigest)
    {
        float[][] y = InBasisOf(format, source, isRotated, seed);
        if (format.IsCentered())
        {
            return LevelOracle.Keys(format, y);
        }

        (uint[] Codes, Half[] Scales)[] vectors = [.. y.Select(v => Vector(format, v))];
        (Half[] mean, Half[] deviation) = hasDigest ? LevelOracle.Digest(y) : ([], []);
        return new PartCodes(format, [.. vectors.Select(v => v.Codes)], [.. vectors.Select(v => v.Scales)], mean, deviation);
    }

    /// <summary>Encodes a part of which either may be under key scales: T formats are, all others are not.</summary>
    /// <param name="format">The format to encode to.</param>
    /// <param name="from">The format that the vectors come from.</param>
    /// <param name="source">Vectors by token, in the basis of that format.</param>
    /// <param name="exponents">The row's scales.</param>
    /// <param name="seed">The rotation's seed.</param>
    /// <param name="hasDigest">True if mean and deviation are wanted.</param>
    public static PartCodes Encode(PageFormat format, PageFormat from, float[][] source, byte[] exponents, ulong seed, bool hasDigest)
    {
        if (from.IsCentered() == format.IsCentered() || exponents.All(exponent => exponent == 0))
        {
            return Encode(format, source, from.IsRotated(), seed, hasDigest);
        }

        int sign = format.IsCentered() ? 1 : -1;
        float[][] plain = [.. source.Select(v => from.IsRotated() ? RotationOracle.Undo(v, seed) : v)];
        return Encode(format, [.. plain.Select(v => v.Select((x, e) => MathF.ScaleB(x, sign * exponents[e])).ToArray())], false, seed, hasDigest);
    }

    /// <summary>One token's vector in binary32, in the basis in which it is stored, from which a kernel encodes it again.</summary>
    public static float[] Decode(PartCodes part, int token)
    {
        (uint[] codes, float[] scales) = (part.Codes[token], [.. part.Scales[token].Select(s => (float)s)]);
        var vector = new float[codes.Length];
        int group = part.Format.ScaleGroup(codes.Length);
        int bits = part.Format.BitsPerElement();
        for (int e = 0; e < codes.Length; e++)
        {
            uint code = codes[e];
            vector[e] = part.Format switch
            {
                PageFormat.F32 => BitConverter.UInt32BitsToSingle(code),
                PageFormat.F16 => (float)BitConverter.UInt16BitsToHalf((ushort)code),
                PageFormat.BF16 => BitConverter.UInt32BitsToSingle(code << 16),
                PageFormat.I8 => (sbyte)code * scales[0],
                PageFormat.V3 or PageFormat.V2 => Levels.Of(bits)[(int)code] * (scales[0] * Levels.Step(bits)),
                PageFormat.V4 => (scales[2 * (e / group)] * code) + scales[(2 * (e / group)) + 1],
                PageFormat.FP8 => (float)Fp8Oracle.Decode(code),
                PageFormat.Q8 => (sbyte)code * scales[e / group],
                PageFormat.Q4 => ((int)code - 8) * scales[e / group],
                _ => ((scales[1] * Levels.Of(bits)[(int)code]) + (float)part.Mean[e]) * scales[0],
            };
        }

        return vector;
    }

    // Vectors in the basis of a format, limited to the range of a full-precision format.
    private static float[][] InBasisOf(PageFormat format, float[][] source, bool isRotated, ulong seed)
    {
        if (format.IsRotated())
        {
            return isRotated ? source : [.. source.Select(v => RotationOracle.Apply(v, seed))];
        }

        double largest = format switch
        {
            PageFormat.F16 => 65504,
            PageFormat.BF16 => BitConverter.UInt32BitsToSingle(0x7F7F0000),
            _ => float.MaxValue,
        };
        return [.. source.Select(v => isRotated ? RotationOracle.Undo(v, seed) : v)
            .Select(v => v.Select(x => (float)Math.Clamp((double)x, -largest, largest)).ToArray())];
    }

    private static (uint[] Codes, Half[] Scales) Vector(PageFormat format, float[] y) => format switch
    {
        PageFormat.F32 => ([.. y.Select(BitConverter.SingleToUInt32Bits)], []),
        PageFormat.F16 => ([.. y.Select(x => (uint)BitConverter.HalfToUInt16Bits((Half)x))], []),
        PageFormat.BF16 => ([.. y.Select(x => (uint)Round16.BFloat16(x))], []),
        PageFormat.I8 => Int8Oracle.Encode(y),
        PageFormat.V4 => Groups(y),
        PageFormat.V3 or PageFormat.V2 => LevelOracle.Value(format, y),
        PageFormat.FP8 => ([.. y.Select(Fp8Oracle.Encode)], []),
        PageFormat.Q8 => GgmlOracle.Q8(y),
        PageFormat.Q4 => GgmlOracle.Q4(y),
        _ => throw new ArgumentOutOfRangeException(nameof(format), format, "not encoded vector by vector"),
    };

    // V4: minimum rounded down, span rounded up, nearest of sixteen steps.
    private static (uint[] Codes, Half[] Scales) Groups(float[] y)
    {
        int group = PageFormat.V4.ScaleGroup(y.Length);
        (var codes, var scales) = (new uint[y.Length], new List<Half>());
        foreach (float[] part in y.Chunk(group))
        {
            Half m = Round16.Down(part.Min());
            Half s = Round16.Up((part.Max() - (float)m) / 15f);
            float inverse = 1f / (float)s;
            for (int i = 0; i < group; i++)
            {
                float step = (part[i] - (float)m) * inverse;
                codes[(scales.Count / 2 * group) + i] = (uint)Math.Clamp(MathF.Round(Math.Clamp(step, 0, 15), MidpointRounding.ToEven), 0, 15);
            }

            scales.AddRange([s, m]);
        }

        return (codes, [.. scales]);
    }
}
