using System.Globalization;

namespace KvCacheGpu.Cli;

/// <summary>Formats numbers for tables.</summary>
internal static class Readable
{
    private static readonly string[] _units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

    /// <summary>"512 B", "1.88 MiB".</summary>
    public static string Bytes(double bytes)
    {
        int unit = 0;
        for (; bytes >= 1024 && unit < _units.Length - 1; unit++)
        {
            bytes /= 1024;
        }

        return string.Create(CultureInfo.InvariantCulture, $"{Math.Round(bytes, unit == 0 ? 1 : 2)} {_units[unit]}");
    }

    /// <summary>"1,920".</summary>
    public static string Count(double count) => count.ToString("N0", CultureInfo.InvariantCulture);

    /// <summary>"51.6 %".</summary>
    public static string Percent(double ratio) => (100 * ratio).ToString("F1", CultureInfo.InvariantCulture) + " %";

    /// <summary>"25.68".</summary>
    public static string Decimal(double number) => number.ToString("F2", CultureInfo.InvariantCulture);

    /// <summary>A text that files or users chose, on one line.</summary>
    public static string Line(string text) => string.Concat(text.Select(c => char.IsControl(c) ? ' ' : c));
}
