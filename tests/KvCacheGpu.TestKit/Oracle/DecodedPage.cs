using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>
/// A page's vectors in double, read from its bytes by the map drawn in <see cref="PageLayout"/>, with a decoding of every
/// format and an inverse rotation of its own.
/// </summary>
public sealed class DecodedPage
{
    /// <summary>Decodes the first <paramref name="tokens"/> tokens of a slot's bytes.</summary>
    /// <param name="bytes">The slot.</param>
    /// <param name="layout">The page's layout.</param>
    /// <param name="geometry">The shape.</param>
    /// <param name="rotationSeed">The rotation's seed.</param>
    /// <param name="tokens">Tokens to decode.</param>
    /// <param name="exponents">Key scales of the page's row, which a T format's keys have; empty: all 0.</param>
    public DecodedPage(byte[] bytes, PageLayout layout, KvGeometry geometry, ulong rotationSeed, int tokens, byte[]? exponents = null)
    {
        ReadOnlySpan<int> words = MemoryMarshal.Cast<byte, int>(bytes);
        KeyCodes = PartCodes.Read(words, new PartPlace(layout, geometry, isValue: false), tokens);
        ValueCodes = PartCodes.Read(words, new PartPlace(layout, geometry, isValue: true), tokens);
        (StoredKeys, StoredValues) = (Decode(KeyCodes), Decode(ValueCodes));
        (Keys, Values) = (Plain(KeyCodes.Format, StoredKeys, rotationSeed), Plain(ValueCodes.Format, StoredValues, rotationSeed));
        if (exponents is not null && KeyCodes.Format.IsCentered())
        {
            Keys = [.. Keys.Select(key => key.Zip(exponents, (x, exponent) => x / (1 << exponent)).ToArray())];
        }
    }

    /// <summary>Keys in the plain basis, one vector per token.</summary>
    public double[][] Keys { get; }

    /// <summary>Values in the plain basis.</summary>
    public double[][] Values { get; }

    /// <summary>Keys in the basis they are stored in.</summary>
    public double[][] StoredKeys { get; }

    /// <summary>Values in the basis they are stored in.</summary>
    public double[][] StoredValues { get; }

    /// <summary>The keys as stored: codes, scales, digest.</summary>
    public PartCodes KeyCodes { get; }

    /// <summary>The values as stored.</summary>
    public PartCodes ValueCodes { get; }

    /// <summary>Decodes a part in the basis it is stored in.</summary>
    public static double[][] Decode(PartCodes part)
    {
        var vectors = new double[part.Codes.Length][];
        double[] mean = [.. part.Mean.Select(Half16)];
        for (int t = 0; t < vectors.Length; t++)
        {
            uint[] codes = part.Codes[t];
            double[] scales = [.. part.Scales[t].Select(Half16)];
            int group = part.Format.ScaleGroup(codes.Length);
            vectors[t] = new double[codes.Length];
            for (int e = 0; e < codes.Length; e++)
            {
                vectors[t][e] = part.Format switch
                {
                    PageFormat.T4 or PageFormat.T3 or PageFormat.T2 => scales[0] * (mean[e] + (scales[1] * Level(part.Format, codes[e]))),
                    PageFormat.V4 => scales[(2 * (e / group)) + 1] + (scales[2 * (e / group)] * codes[e]),
                    PageFormat.I8 or PageFormat.V3 or PageFormat.V2 => scales[0] * Number(part.Format, codes[e]),
                    PageFormat.Q8 or PageFormat.Q4 => scales[e / group] * Number(part.Format, codes[e]),
                    _ => Number(part.Format, codes[e]),
                };
            }
        }

        return vectors;
    }

    private static double[][] Plain(PageFormat format, double[][] stored, ulong seed)
    {
        if (!format.IsRotated() || stored.Length == 0)
        {
            return stored;
        }

        float[] signs = Rotation.Signs(stored[0].Length, seed);
        return [.. stored.Select(v => HadamardMatrix.Undo(v, signs))];
    }

    private static double Number(PageFormat format, uint code) => format switch
    {
        PageFormat.F32 => BitConverter.UInt32BitsToSingle(code),
        PageFormat.F16 => Half16(BitConverter.UInt16BitsToHalf((ushort)code)),
        PageFormat.BF16 => Brain16(code),
        PageFormat.I8 or PageFormat.Q8 => (sbyte)code,
        PageFormat.Q4 => (int)code - 8,
        PageFormat.FP8 => Fp8Oracle.Decode(code),
        PageFormat.V3 or PageFormat.V2 => Level(format, code) / Levels.Unit(format.BitsPerElement()),
        _ => throw new ArgumentOutOfRangeException(nameof(format), format, "not a number by itself"),
    };

    private static double Level(PageFormat format, uint code) => Levels.Of(format.BitsPerElement())[(int)code];

    private static double Half16(Half half)
    {
        ushort bits = BitConverter.HalfToUInt16Bits(half);
        (int exponent, int fraction) = ((bits >> 10) & 31, bits & 1023);
        double magnitude = exponent switch
        {
            0 => Math.ScaleB(fraction, -24),
            31 => fraction == 0 ? double.PositiveInfinity : double.NaN,
            _ => Math.ScaleB(1024 + fraction, exponent - 25),
        };
        return (bits & 0x8000) == 0 ? magnitude : -magnitude;
    }

    private static double Brain16(uint bits)
    {
        (int exponent, int fraction) = ((int)(bits >> 7) & 255, (int)bits & 127);
        double magnitude = exponent switch
        {
            0 => Math.ScaleB(fraction, -133),
            255 => fraction == 0 ? double.PositiveInfinity : double.NaN,
            _ => Math.ScaleB(128 + fraction, exponent - 134),
        };
        return (bits & 0x8000) == 0 ? magnitude : -magnitude;
    }
}
