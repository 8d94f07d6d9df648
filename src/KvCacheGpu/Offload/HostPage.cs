using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>A sealed page in host memory, bit for bit. Forks share it.</summary>
/// <param name="page">Page index.</param>
/// <param name="pageClass">Its class.</param>
/// <param name="layout">The class's layout, with a digest.</param>
/// <param name="encodings">How often its keys and values were encoded with loss.</param>
/// <param name="place">Where it lies.</param>
internal sealed class HostPage(int page, int pageClass, PageLayout layout, Encodings encodings, PagePlace place)
{
    private float[]? _digest;
    private int _references = 1;

    /// <summary>Page index.</summary>
    public int Page => page;

    /// <summary>Its class.</summary>
    public int Class => pageClass;

    /// <summary>How often its keys and values were encoded with loss.</summary>
    public Encodings Encodings => encodings;

    /// <summary>Where it lies.</summary>
    public PagePlace Place => place;

    /// <summary>The page as it lies in its slot.</summary>
    public ReadOnlySpan<int> Words => place.Words;

    /// <summary>Its place in the stage that it was copied to last.</summary>
    public int Staged { get; set; } = -1;

    /// <summary>The mean of its keys, <c>[key width]</c>, in the basis in which they lie. One thread at a time asks.</summary>
    public ReadOnlySpan<float> Mean => (_digest ??= DigestOf(layout, Words)).AsSpan(0, layout.DigestStride);

    /// <summary>Their variance, likewise.</summary>
    public ReadOnlySpan<float> Variance => (_digest ??= DigestOf(layout, Words)).AsSpan(layout.DigestStride);

    /// <summary>Bytes that a page of a layout takes here.</summary>
    public static long BytesOf(PageLayout layout) => layout.Bytes + (2L * layout.DigestStride * sizeof(float));

    /// <summary>One more has it: a sequence, or a snapshot that reads it. Callers are inside of the pool's gate.</summary>
    public void Share() => _references++;

    /// <summary>One less has it; the last gives its place back. Callers are inside of the pool's gate.</summary>
    public void Leave(HostRoom room)
    {
        if (--_references == 0)
        {
            room.Give(place, pageClass);
        }
    }

    // Keys of centered formats, and so their mean and deviation, are in units of each token's scale.
    private static float[] DigestOf(PageLayout layout, ReadOnlySpan<int> words)
    {
        ReadOnlySpan<Half> halves = MemoryMarshal.Cast<int, Half>(words);
        float unit = 1;
        if (layout.KeyFormat.IsCentered())
        {
            float sum = 0;
            foreach (Half scale in halves.Slice(2 * layout.KeyScaleOffset, layout.PageTokens))
            {
                sum += (float)scale;
            }

            unit = sum / layout.PageTokens;
        }

        int width = layout.DigestStride;
        float[] digest = new float[2 * width];
        for (int i = 0; i < width; i++)
        {
            float deviation = (float)halves[(2 * layout.DigestOffset) + width + i] * unit;
            digest[i] = (float)halves[(2 * layout.DigestOffset) + i] * unit;
            digest[width + i] = deviation * deviation;
        }

        return digest;
    }
}
