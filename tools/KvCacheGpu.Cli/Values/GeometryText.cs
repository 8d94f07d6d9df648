using System.Globalization;

namespace KvCacheGpu.Cli;

/// <summary>A shape as users write it: "32,8,128".</summary>
/// <param name="Layers">Number of layers.</param>
/// <param name="Heads">Number of KV heads, and of query heads.</param>
/// <param name="Width">Width of keys and values.</param>
internal sealed record GeometryText(int Layers, int Heads, int Width)
{
    /// <summary>The texts that <see cref="TryParse"/> takes, for errors.</summary>
    public const string Expected = "three whole numbers above 0, layers,heads,width: \"32,8,128\"";

    /// <summary>Reads a shape.</summary>
    public static bool TryParse(string text, out GeometryText? geometry)
    {
        string[] parts = text.Split(',', StringSplitOptions.TrimEntries);
        geometry = parts is [var l, var h, var w] && TryCount(l, out int layers) && TryCount(h, out int heads) && TryCount(w, out int width)
            ? new GeometryText(layers, heads, width)
            : null;
        return geometry is not null;
    }

    private static bool TryCount(string text, out int count) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out count) && count > 0;
}
