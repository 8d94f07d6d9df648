namespace KvCacheGpu.TestKit;

/// <summary>The keys or the values of one page in memory.</summary>
internal readonly unsafe struct ReferencePart(int* page, int words, PartPlace place, ulong rotationSeed)
{
    public PartPlace Place { get; } = place;

    public PageFormat Format => Place.Format;

    public Span<int> Page => new(page, words);

    /// <summary>Stores a vector in full precision.</summary>
    public void Write(int token, ReadOnlySpan<float> vector)
    {
        Span<int> target = Page[Place.FirstWord(token)..];
        for (int e = 0; e < vector.Length; e++)
        {
            uint code = Format switch
            {
                PageFormat.F32 => BitConverter.SingleToUInt32Bits(vector[e]),
                PageFormat.F16 => BitConverter.HalfToUInt16Bits((Half)vector[e]),
                PageFormat.BF16 => Round16.BFloat16(vector[e]),
                _ => throw new InvalidOperationException($"{Format.Name()} pages are not written token by token"),
            };
            CodeMap.Write(Format, target, Place.WordStride, e, code);
        }
    }

    /// <summary>Reads a vector in the basis it is stored in.</summary>
    public void Read(int token, Span<float> vector)
    {
        if (!Format.IsFullPrecision() && Format != PageFormat.I8)
        {
            PartOracle.Decode(PartCodes.Read(Page, Place, 1, token), 0).CopyTo(vector);
            return;
        }

        ReadOnlySpan<int> source = Page[Place.FirstWord(token)..];
        float scale = Format == PageFormat.I8 ? (float)PartPlace.ReadHalf(Page, Place.ScaleHalf(token, 0)) : 1;
        for (int e = 0; e < Place.Width; e++)
        {
            uint code = CodeMap.Read(Format, source, Place.WordStride, e);
            vector[e] = Format switch
            {
                PageFormat.F32 => BitConverter.UInt32BitsToSingle(code),
                PageFormat.F16 => (float)BitConverter.UInt16BitsToHalf((ushort)code),
                PageFormat.BF16 => BitConverter.UInt32BitsToSingle(code << 16),
                _ => (sbyte)code * scale,
            };
        }
    }

    /// <summary>Reads a vector in the plain basis; T formats' keys are under the row's scales.</summary>
    public void ReadPlain(int token, byte[] exponents, Span<float> vector)
    {
        vector = vector[..Place.Width];
        Read(token, vector);
        if (Format.IsRotated())
        {
            RotationOracle.Undo(vector, rotationSeed).CopyTo(vector);
        }

        for (int e = 0; Format.IsCentered() && e < vector.Length; e++)
        {
            vector[e] /= 1 << exponents[e];
        }
    }

    /// <summary>Encodes from another part, or copies it if the formats are equal; T formats' keys are under the row's scales. Returns false if this format cannot hold it.</summary>
    public bool Encode(ReferencePart source, int tokens, bool isFirstSealing, byte[] exponents)
    {
        var vectors = new float[tokens][];
        for (int t = 0; t < tokens; t++)
        {
            source.Read(t, vectors[t] = new float[Place.Width]);
        }

        if (!IsTaken(source.Format, vectors))
        {
            // A copy may hold anything, because a page that was kept must survive a fork that writes on.
            if (source.Format == Format)
            {
                PartCodes.Read(source.Page, source.Place, tokens).Write(Page, Place);
            }

            return false;
        }

        PartCodes codes = source.Format == Format ? PartCodes.Read(source.Page, source.Place, tokens) : Encoded(source.Format, vectors, exponents);
        if (source.Format == Format && Place.HasDigest && (isFirstSealing || !source.Place.HasDigest))
        {
            PartCodes fresh = Encoded(source.Format, vectors, exponents);
            codes = codes with { Mean = fresh.Mean, Deviation = fresh.Deviation };
        }

        codes.Write(Page, Place);
        return codes.IsHeld;
    }

    private PartCodes Encoded(PageFormat source, float[][] vectors, byte[] exponents) =>
        PartOracle.Encode(Format, source, vectors, exponents, rotationSeed, Place.HasDigest);

    // True for numbers; in full precision a number may exceed the largest only as far as rounding brings it back.
    private bool IsTaken(PageFormat source, float[][] vectors)
    {
        bool isRounded = source.IsFullPrecision() && Format == PageFormat.F16;
        return vectors.All(v => v.All(x => float.IsFinite(x) && (!isRounded || MathF.Abs(x) <= 65536f)));
    }
}
