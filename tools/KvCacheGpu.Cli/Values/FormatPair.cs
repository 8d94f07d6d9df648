using KvCacheGpu.Kernels;

namespace KvCacheGpu.Cli;

/// <summary>The pair that --key-format and --value-format mean, each of which may be left out.</summary>
internal static class FormatPair
{
    private const string Options = "--key-format, --value-format";

    /// <summary>Completes what was given: F16 where nothing was, or only i8, which goes with all; else the format's natural partner.</summary>
    /// <exception cref="UsageException">A format of values for keys or the reverse, or two that are no pair.</exception>
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
