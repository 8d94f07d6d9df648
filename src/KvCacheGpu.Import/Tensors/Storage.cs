namespace KvCacheGpu.Import;

/// <summary>A run of elements that tensors view, or the bytes of another one as elements of a type of its own. Formats that put the data last know its place only after everything that refers to it has been read.</summary>
internal sealed class Storage(ElementType type, long elements, Storage? raw = null)
{
    private ByteSource? _bytes;
    private bool _isBigEndian;

    /// <summary>What the elements are.</summary>
    public ElementType Type { get; } = type;

    /// <summary>How many there are.</summary>
    public long Elements { get; } = elements;

    /// <summary>Whether an element's first byte is its highest.</summary>
    public bool IsBigEndian => raw?.IsBigEndian ?? _isBigEndian;

    /// <summary>Where they lie.</summary>
    public ByteSource Bytes => raw?.Bytes ?? _bytes ?? throw ImportException.Corrupt("storage", null, "its data in the file", "none");

    /// <summary>Whether the place of the data is known.</summary>
    public bool IsBound => _bytes is not null;

    /// <summary>Says where the data lies; its length has been checked.</summary>
    public Storage Bind(ByteSource bytes, bool isBigEndian = false)
    {
        (_bytes, _isBigEndian) = (bytes, isBigEndian);
        return this;
    }
}
