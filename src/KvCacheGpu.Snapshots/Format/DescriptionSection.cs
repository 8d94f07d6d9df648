using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>The section that says what pages are of: geometry, classes, seed and table version, fingerprint.</summary>
/// <remarks>
/// <code>
/// layers i32 | query heads i32 | first KV head i32 | KV heads i32 | key width i32 | value width i32 | page tokens i32
/// rotation seed u64 | levels version i32      (version 0 has no levels version: it was 1)
/// fingerprint text or null
/// classes i32, each:  key format u8 | value format u8 | has a digest u8 | reserved u8, 0 | bytes i32
/// classes of each layer, i32 each             (version 0 has none: all classes in all layers; then pages i32 follows)
/// </code>
/// </remarks>
internal static class DescriptionSection
{
    private const int MostLayers = 1 << 16;

    public static SectionWriter Write(SnapshotContent content)
    {
        KvGeometry geometry = content.Geometry;
        var writer = new SectionWriter();
        writer.Int32(geometry.Layers);
        writer.Int32(geometry.QueryHeads);
        writer.Int32(geometry.Heads.Start);
        writer.Int32(geometry.Heads.Count);
        writer.Int32(geometry.KeyWidth);
        writer.Int32(geometry.ValueWidth);
        writer.Int32(geometry.PageTokens);
        writer.Int64((long)content.RotationSeed);
        writer.Int32(content.LevelsVersion);
        writer.Text(content.ModelFingerprint);
        writer.Int32(content.Classes.Count);
        foreach (PageLayout layout in content.Classes)
        {
            writer.Byte((byte)layout.KeyFormat);
            writer.Byte((byte)layout.ValueFormat);
            writer.Byte(layout.HasDigest ? (byte)1 : (byte)0);
            writer.Byte(0);
            writer.Int32(layout.Bytes);
        }

        foreach (int classes in content.LayerClasses)
        {
            writer.Int32(classes);
        }

        return writer;
    }

    /// <summary>Reads a description; sequences and page classes are still missing. Version 0 leaves its count of pages in <paramref name="oldPages"/>.</summary>
    public static SnapshotContent Read(ReadOnlySpan<byte> section, int version, out int oldPages)
    {
        var reader = new SectionReader(section, "a snapshot's description");
        KvGeometry geometry = ReadGeometry(ref reader);
        ulong seed = (ulong)reader.Int64();
        int levels = version == 0 ? 1 : reader.Int32();
        string? fingerprint = reader.TextOrNull();
        int count = reader.Count(8, KernelShape.MaxClasses, "page classes");
        var classes = new PageLayout[count];
        for (int i = 0; i < count; i++)
        {
            classes[i] = ReadClass(ref reader, geometry);
        }

        int[] layerClasses = version == 0
            ? [.. Enumerable.Repeat((1 << count) - 1, geometry.Layers)]
            : reader.Ints(geometry.Layers);
        oldPages = version == 0 ? reader.Int32() : 0;
        reader.End();
        return new SnapshotContent
        {
            Geometry = geometry,
            Classes = classes,
            LayerClasses = layerClasses,
            RotationSeed = seed,
            LevelsVersion = levels,
            ModelFingerprint = fingerprint,
            Sequences = [],
            PageClasses = default,
        };
    }

    private static KvGeometry ReadGeometry(ref SectionReader reader)
    {
        (int layers, int queryHeads, int first, int heads) = (reader.Int32(), reader.Int32(), reader.Int32(), reader.Int32());
        (int keyWidth, int valueWidth, int pageTokens) = (reader.Int32(), reader.Int32(), reader.Int32());
        try
        {
            return layers > MostLayers || heads > MostLayers || valueWidth == 0
                ? throw reader.Flaw($"at most {MostLayers} layers and heads", $"{layers} layers, {heads} heads of width {valueWidth}")
                : new KvGeometry(layers, queryHeads, new HeadRange(first, heads), keyWidth, valueWidth, pageTokens);
        }
        catch (ArgumentException error)
        {
            throw reader.Flaw("a geometry", error.Message);
        }
    }

    private static PageLayout ReadClass(ref SectionReader reader, KvGeometry geometry)
    {
        (byte key, byte value, byte digest, byte reserved) = (reader.Byte(), reader.Byte(), reader.Byte(), reader.Byte());
        int bytes = reader.Int32();
        try
        {
            if (key > (byte)PageFormat.Q4 || value > (byte)PageFormat.Q4 || digest > 1 || reserved != 0)
            {
                throw reader.Flaw("page formats that are known", $"{key}, {value}, digest {digest}");
            }

            var layout = new PageLayout(geometry, (PageFormat)key, (PageFormat)value, digest == 1);
            return layout.Bytes == bytes && layout.HasDigest == (digest == 1)
                ? layout
                : throw reader.Flaw($"{layout.Bytes} bytes for a page of {layout}", $"{bytes}");
        }
        catch (Exception error) when (error is ArgumentException or OverflowException)
        {
            throw reader.Flaw("a pair of page formats", error.Message);
        }
    }
}
