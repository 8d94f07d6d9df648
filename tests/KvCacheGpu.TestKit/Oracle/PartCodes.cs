namespace KvCacheGpu.TestKit;

/// <summary>The keys or the values of a page as their format stores them, read from its words. Two encoders must agree on them.</summary>
/// <param name="Format">The format.</param>
/// <param name="Codes">Codes by [token][element]; for full-precision formats the bits of the numbers.</param>
/// <param name="Scales">Scales by [token][plane].</param>
/// <param name="Mean">The digest's mean, empty if there is none; for T formats mu.</param>
/// <param name="Deviation">The digest's deviation.</param>
public sealed record PartCodes(PageFormat Format, uint[][] Codes, Half[][] Scales, Half[] Mean, Half[] Deviation)
{
    /// <summary>True if a format can hold the part: no scale is infinite or NaN.</summary>
    public bool IsHeld => Scales.All(token => token.All(Half.IsFinite));

    /// <summary>Reads <paramref name="tokens"/> tokens of a part, from its <paramref name="first"/> on.</summary>
    public static PartCodes Read(ReadOnlySpan<int> page, PartPlace place, int tokens, int first = 0)
    {
        var codes = new uint[tokens][];
        var scales = new Half[tokens][];
        for (int t = 0; t < tokens; t++)
        {
            codes[t] = new uint[place.Width];
            for (int e = 0; e < place.Width; e++)
            {
                codes[t][e] = CodeMap.Read(place.Format, page[place.FirstWord(first + t)..], place.WordStride, e);
            }

            scales[t] = new Half[place.ScalePlanes];
            for (int plane = 0; plane < place.ScalePlanes; plane++)
            {
                scales[t][plane] = PartPlace.ReadHalf(page, place.ScaleHalf(first + t, plane));
            }
        }

        return new PartCodes(place.Format, codes, scales, place.ReadHalves(page, place.MeanHalf), place.ReadHalves(page, place.DeviationHalf));
    }

    /// <summary>Writes every token, and the digest if the part has one.</summary>
    public void Write(Span<int> page, PartPlace place)
    {
        for (int t = 0; t < Codes.Length; t++)
        {
            for (int e = 0; e < place.Width; e++)
            {
                CodeMap.Write(place.Format, page[place.FirstWord(t)..], place.WordStride, e, Codes[t][e]);
            }

            for (int plane = 0; plane < place.ScalePlanes; plane++)
            {
                PartPlace.WriteHalf(page, place.ScaleHalf(t, plane), Scales[t][plane]);
            }
        }

        WriteDigest(page, place);
    }

    /// <summary>Writes only the digest, if the part has one.</summary>
    public void WriteDigest(Span<int> page, PartPlace place)
    {
        for (int e = 0; place.HasDigest && e < Mean.Length; e++)
        {
            PartPlace.WriteHalf(page, place.MeanHalf + e, Mean[e]);
            PartPlace.WriteHalf(page, place.DeviationHalf + e, Deviation[e]);
        }
    }
}
