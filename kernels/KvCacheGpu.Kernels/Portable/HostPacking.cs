namespace KvCacheGpu.Kernels;

/// <summary>Host tensors of any strides -> dense, of the same type, in pinned memory on their way to the device.</summary>
internal static class HostPacking
{
    /// <summary>source[tokens][heads][width] at its strides -> the bytes of target[tokens][heads][width].</summary>
    public static void Pack(KvTensor source, int tokens, int heads, int width, Span<byte> target)
    {
        (int tokenStride, int headStride) = source.StridesFor(heads, width);
        int vectorBytes = width * source.ElementBytes;
        if (headStride == width && tokenStride == heads * width)
        {
            source.Host[..(tokens * heads * vectorBytes)].CopyTo(target);
            return;
        }

        for (int token = 0; token < tokens; token++)
        {
            for (int head = 0; head < heads; head++)
            {
                long at = (((long)token * tokenStride) + ((long)head * headStride)) * source.ElementBytes;
                source.Host.Slice((int)at, vectorBytes).CopyTo(target[(((token * heads) + head) * vectorBytes)..]);
            }
        }
    }
}
