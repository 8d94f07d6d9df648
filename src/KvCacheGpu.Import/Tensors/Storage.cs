namespace KvCacheGpu.Import;

/// <summary>A run of elements that tensors view, or the bytes of another storage as elements of another type. Formats that put the data last tell its place only after everything that refers to it.</summary>
internal sealed class Storage(ElementType type, long elements, Storage? raw = null)
{
    private ByteSource? _bytes;
    private bool _isBigEndian;

    /// <summary>The type of the elements.</summary>
    public ElementType Type { get; } = type;

    /// <summary>Number of elements.</summary>
    public long Elements { get; } = elements;

    /// <summary>True if an element's first byte is its highest.</summary>
    public bool IsBigEndian => raw?.IsBigEndian ?? _isBigEndian;

    /// <summary>The bytes of the elements.</summary>
    public ByteSource Bytes => raw?.Bytes ?? _bytes ?? throw ImportException.Corrupt("storage", null, "its data in the file", "none");

    /// <summary>True if the place of the data is known.</summary>
    public bool IsBound => _bytes is not null;

    /// <summary>Sets the place of the data, whose length has been checked.</summary>
    public Storage Bind(ByteSource bytes, bool isBigEndian = false)
    {
        (_bytes, _isBigEndian) = (bytes, isBigEndian);
        return this;
    }
}
