using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>The keys or the values of one page in memory, read and written a vector at a time.</summary>
internal readonly unsafe struct ReferencePart
{
    private readonly int* _words;
    private readonly Half* _scales;
    private readonly int _wordStride;
    private readonly int _tokenStride;
    private readonly int _width;
    private readonly float[] _signs;

    private ReferencePart(int* words, int* scales, int wordStride, int tokenStride, int width, PageFormat format, float[] signs)
    {
        _words = words;
        _scales = (Half*)scales;
        (_wordStride, _tokenStride) = (wordStride, tokenStride);
        (_width, Format, _signs) = (width, format, signs);
    }

    public PageFormat Format { get; }

    public static ReferencePart Keys(int* page, PageLayout layout, int width, float[] signs) =>
        new(page, page + layout.KeyScaleOffset, layout.PageTokens, 1, width, layout.KeyFormat, signs);

    public static ReferencePart Values(int* page, PageLayout layout, int width, float[] signs) =>
        new(page + layout.ValueOffset, page + layout.ValueScaleOffset, 1, layout.ValueWords, width, layout.ValueFormat, signs);

    /// <summary>The largest number of a full-precision format.</summary>
    private double Largest => Format switch
    {
        PageFormat.F16 => (double)Half.MaxValue,
        PageFormat.BF16 => BitConverter.UInt32BitsToSingle(0x7F7F0000),
        _ => float.MaxValue,
    };

    /// <summary>Stores a vector of the plain basis (changed on the way).</summary>
    public void Write(int token, Span<float> vector)
    {
        float scale = 1;
        if (Format == PageFormat.I8)
        {
            Rotation.Apply(vector, _signs);
            float largest = 0;
            foreach (float x in vector)
            {
                largest = MathF.Max(largest, MathF.Abs(x));
            }

            uint bits = Bits16.HalfRoundUpFromSingleBits(BitConverter.SingleToUInt32Bits(largest / 127f));
            _scales[token] = BitConverter.UInt16BitsToHalf((ushort)bits);
            scale = (float)_scales[token];
        }

        for (int e = 0; e < _width; e++)
        {
            switch (Format)
            {
                case PageFormat.F32:
                    *(float*)At(token, e, 4) = vector[e];
                    break;
                case PageFormat.F16:
                    *(Half*)At(token, e, 2) = (Half)vector[e];
                    break;
                case PageFormat.BF16:
                    uint brain = Bits16.BFloat16FromSingleBits(BitConverter.SingleToUInt32Bits(vector[e]));
                    *(ushort*)At(token, e, 2) = (ushort)brain;
                    break;
                default:
                    *(sbyte*)At(token, e, 1) = (sbyte)Math.Clamp(MathF.Round(vector[e] / scale), -127f, 127f);
                    break;
            }
        }
    }

    /// <summary>Brings elements beyond the format's largest number back to it.</summary>
    public void Saturate(Span<float> vector)
    {
        foreach (ref float x in vector)
        {
            x = (float)Math.Clamp(x, -Largest, Largest);
        }
    }

    /// <summary>Reads a vector in the basis it is stored in.</summary>
    public void Read(int token, Span<float> vector)
    {
        for (int e = 0; e < _width; e++)
        {
            vector[e] = Format switch
            {
                PageFormat.F32 => *(float*)At(token, e, 4),
                PageFormat.F16 => (float)*(Half*)At(token, e, 2),
                PageFormat.BF16 => BitConverter.UInt32BitsToSingle((uint)*(ushort*)At(token, e, 2) << 16),
                _ => *(sbyte*)At(token, e, 1) * (float)_scales[token],
            };
        }
    }

    /// <summary>Reads a vector in the plain basis.</summary>
    public void ReadPlain(int token, Span<float> vector)
    {
        Read(token, vector);
        if (Format.IsRotated())
        {
            Rotation.Undo(vector, _signs);
        }
    }

    /// <summary>Takes a vector over from a part of the same format, bit for bit.</summary>
    public void Copy(int token, ReferencePart source)
    {
        for (int w = 0; w < Format.Words(_width); w++)
        {
            _words[(w * _wordStride) + (token * _tokenStride)] = source._words[(w * source._wordStride) + (token * source._tokenStride)];
        }

        if (Format == PageFormat.I8)
        {
            _scales[token] = source._scales[token];
        }
    }

    private byte* At(int token, int element, int size) =>
        (byte*)(_words + (element * size / 4 * _wordStride) + (token * _tokenStride)) + (element * size % 4);
}
