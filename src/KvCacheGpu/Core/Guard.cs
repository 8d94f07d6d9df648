namespace KvCacheGpu;

/// <summary>Checks of arguments that several public members share.</summary>
internal static class Guard
{
    /// <exception cref="ArgumentOutOfRangeException">The index is not one of 0 .. count - 1.</exception>
    public static void ThrowIfOutside(int index, int count, string name)
    {
        if ((uint)index >= (uint)count)
        {
            throw new ArgumentOutOfRangeException(name, index, $"expected 0..{count - 1}, got {index}");
        }
    }

    /// <exception cref="ArgumentException">The target has fewer elements than are needed.</exception>
    public static void ThrowIfShorter(long length, long needed, string name)
    {
        if (length < needed)
        {
            throw new ArgumentException($"{name}: expected at least {needed} elements, got {length}", name);
        }
    }

    /// <exception cref="ArgumentException">The tensor has more or fewer elements than are expected.</exception>
    public static void ThrowIfNotOf(long length, long expected, string name)
    {
        if (length != expected)
        {
            throw new ArgumentException($"{name}: expected {expected} elements, got {length}", name);
        }
    }
}
