using System.Globalization;

namespace KvCacheGpu.Cli;

/// <summary>A budget as users write it: bytes, or percent of what a dense F16 cache takes.</summary>
/// <param name="Bytes">Bytes, or null.</param>
/// <param name="Percent">Percent, or null.</param>
internal sealed record MemoryBudget(long? Bytes, double? Percent)
{
    /// <summary>The texts that <see cref="TryParse"/> takes, for errors.</summary>
    public const string Expected = "bytes (\"67108864\", \"64MiB\", \"1.5GB\") or a percentage of the dense F16 cache (\"25%\"), above 0";

    private static readonly (string Suffix, double Factor)[] _units =
    [
        ("KiB", 1L << 10), ("MiB", 1L << 20), ("GiB", 1L << 30), ("TiB", 1L << 40),
        ("KB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12), ("%", 1), ("B", 1), (string.Empty, 1),
    ];

    /// <summary>Reads a budget. Units may be in any case, with a space before them.</summary>
    public static bool TryParse(string text, out MemoryBudget? budget)
    {
        budget = null;
        text = text.Trim();
        (string suffix, double factor) = _units.First(u => text.EndsWith(u.Suffix, StringComparison.OrdinalIgnoreCase));
        ReadOnlySpan<char> digits = text.AsSpan(0, text.Length - suffix.Length).TrimEnd();
        if (!decimal.TryParse(digits, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out decimal number) || number <= 0)
        {
            return false;
        }

        if (suffix == "%")
        {
            budget = new MemoryBudget(null, (double)number);
            return true;
        }

        // Without a unit only whole bytes are taken: a fraction of a byte is a typing error.
        bool isWhole = factor > 1 || number == decimal.Truncate(number);
        if (!isWhole || number > long.MaxValue / (decimal)factor)
        {
            return false;
        }

        long bytes = (long)(number * (decimal)factor);
        budget = new MemoryBudget(bytes, null);
        return bytes > 0;
    }

    /// <summary>The number of bytes for a cache of <paramref name="tokens"/> tokens.</summary>
    public long BytesFor(KvGeometry geometry, long tokens) => Bytes ?? (long)(geometry.DenseF16Bytes(tokens) * (Percent!.Value / 100));
}
