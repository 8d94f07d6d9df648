using System.Buffers;
using System.Buffers.Binary;
using System.Text;

namespace KvCacheGpu;

/// <summary>
/// The bounds within which prefixes are shared: two sequences share pages only if they agree in every field. Null and "" differ, and
/// equal texts in different fields never give the same hash.
/// </summary>
/// <remarks>
/// <code>
/// "KvCacheGpu prefix 1" | per text:   tag, 1 byte | 0 for null, 1 for a text | UTF-8 bytes, int32 | UTF-8
///                       | per number: tag, 1 byte | int64                                      little end first
/// The layers' formats are there only if they are not all alike, the key scales only if there are any.
/// </code>
/// Thread safety: it never changes.
/// </remarks>
public sealed record PrefixNamespace
{
    /// <summary>Names the model that computes the keys and values: its weights and everything that changes them. The default value is null.</summary>
    public string? ModelFingerprint { get; init; }

    /// <summary>The adapter (LoRA) in use, or null.</summary>
    public string? Adapter { get; init; }

    /// <summary>The tenant whose tokens they are, or null.</summary>
    public string? Tenant { get; init; }

    /// <summary>A text that keeps prefixes apart, or null. A secret salt hides from others if a prefix is resident.</summary>
    public string? Salt { get; init; }

    /// <summary>Format of sealed keys.</summary>
    public PageFormat KeyFormat { get; init; }

    /// <summary>Format of sealed values.</summary>
    public PageFormat ValueFormat { get; init; }

    /// <summary>Formats by layer, "i8/i8 t4/v4 ..", if layers differ from each other; else null.</summary>
    public string? LayerFormats { get; init; }

    /// <summary>Seed of the rotation's signs.</summary>
    public ulong RotationSeed { get; init; }

    /// <summary>Tokens in a page.</summary>
    public int PageTokens { get; init; }

    /// <summary>
    /// <see cref="KvKeyScales.Fingerprint"/> of the scales that keys in T formats are under; null, the default, if no layer is sealed in one or all scales are 1.
    /// </summary>
    public string? KeyScales { get; init; }

    /// <summary>The parent of every first block.</summary>
    /// <exception cref="ArgumentException">A text holds half of a surrogate pair, which UTF-8 cannot encode: its hash would equal that of another text.</exception>
    public BlockHash ToHash()
    {
        var content = new ArrayBufferWriter<byte>();
        content.Write("KvCacheGpu prefix 1"u8);
        Write(content, 'M', ModelFingerprint);
        Write(content, 'A', Adapter);
        Write(content, 'T', Tenant);
        Write(content, 'S', Salt);
        Write(content, 'K', (long)KeyFormat);
        Write(content, 'V', (long)ValueFormat);
        Write(content, 'R', (long)RotationSeed);
        Write(content, 'P', PageTokens);
        if (LayerFormats is not null)
        {
            Write(content, 'L', LayerFormats);
        }

        if (KeyScales is not null)
        {
            Write(content, 'E', KeyScales);
        }

        return BlockHash.Of(content.WrittenSpan);
    }

    private static void Write(ArrayBufferWriter<byte> content, char tag, string? text)
    {
        string said = KvText.WellFormed(text, "namespace") ?? "";
        content.Write([(byte)tag, (byte)(text is null ? 0 : 1)]);
        BinaryPrimitives.WriteInt32LittleEndian(content.GetSpan(sizeof(int)), KvText.Strict.GetByteCount(said));
        content.Advance(sizeof(int));
        KvText.Strict.GetBytes(said, content);
    }

    private static void Write(ArrayBufferWriter<byte> content, char tag, long number)
    {
        content.Write([(byte)tag]);
        BinaryPrimitives.WriteInt64LittleEndian(content.GetSpan(sizeof(long)), number);
        content.Advance(sizeof(long));
    }
}
