namespace KvCacheGpu;

/// <summary>A list of fixed room in native memory that belongs to someone else. Not checked: who adds has counted before.</summary>
internal unsafe struct NativeList<T>(void* memory)
    where T : unmanaged
{
    /// <summary>Items in the list.</summary>
    public int Count { get; private set; }

    /// <summary>The items, in the order in which they were added; each may be changed.</summary>
    public readonly Span<T> Items => new(memory, Count);

    public void Add(in T item) => ((T*)memory)[Count++] = item;

    public void Clear() => Count = 0;
}
