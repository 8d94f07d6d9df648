namespace KvCacheGpu.Cli;

/// <summary>Makes the pair of formats of --key-format and --value-format, each of which may be left out.</summary>
internal static class FormatPair
{
    private const string Options = "--key-format, --value-format";

    /// <summary>Completes the pair: F16 if no format was given, or only i8, which goes with all formats; otherwise the format's natural partner.</summary>
    /// <exception cref="UsageException">A format is for values and was given for keys, or the reverse, or the two are no pair.</exception>
    public static KvFormats Of(PageFormat? key, PageFormat? value)
    {
        KvFormats pair = new(key ?? PartnerOf(value, toKey: true), value ?? PartnerOf(key, toKey: false));
        return PageFormats.IsPair(pair.Key, pair.Value)
            ? pair
            : throw new UsageException(Options, "a format with itself, t4 with v4, t3 with v3, t2 with v2, or i8 with any", $"{pair}");
    }

    private static PageFormat PartnerOf(PageFormat? given, bool toKey) => given switch
    {
        null or PageFormat.I8 => PageFormat.F16,
        >= PageFormat.T4 and <= PageFormat.T2 when !toKey => given.Value + (PageFormat.V4 - PageFormat.T4),
        >= PageFormat.V4 and <= PageFormat.V2 when toKey => given.Value - (PageFormat.V4 - PageFormat.T4),
        { } format => format,
    };
}
