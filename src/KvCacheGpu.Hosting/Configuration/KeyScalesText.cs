namespace KvCacheGpu.Hosting;

/// <summary>Key scales as a configuration writes them: "none", or the exponents in base64.</summary>
internal static class KeyScalesText
{
    /// <summary>Reads them; null if there are none to read.</summary>
    /// <exception cref="KvConfigurationException">E003: they are neither, or of another shape.</exception>
    public static KvKeyScales? Parse(string? text, KvGeometry geometry)
    {
        if (text is null || text.Equals("none", StringComparison.OrdinalIgnoreCase))
        {
            return text is null ? null : KvKeyScales.None(geometry);
        }

        try
        {
            return new KvKeyScales(geometry, Convert.FromBase64String(text));
        }
        catch (Exception e) when (e is FormatException or ArgumentException)
        {
            throw new KvConfigurationException(nameof(KvCacheOptions.KeyScales), "'none', or the exponents of the geometry's key scales in base64", $"{text.Length} characters", e);
        }
    }
}
