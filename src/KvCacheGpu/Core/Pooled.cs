using System.Buffers;

namespace KvCacheGpu;

/// <summary>Working memory from the shared pool, given back when it is disposed. Its content is not cleared.</summary>
internal readonly ref struct Pooled<T>(int length)
    where T : unmanaged
{
    private readonly T[] _array = ArrayPool<T>.Shared.Rent(length);

    public Span<T> Span => _array.AsSpan(0, Length);

    public int Length { get; } = length;

    public void Dispose() => ArrayPool<T>.Shared.Return(_array);
}
