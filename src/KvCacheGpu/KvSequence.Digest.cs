using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>What a sealed page says of its keys without being decoded.</content>
public sealed partial class KvSequence
{
    /// <summary>Reads the mean and the deviation of a sealed page's keys, as they were before they were encoded.</summary>
    /// <param name="layer">Layer.</param>
    /// <param name="head">KV head, counted from the first held here.</param>
    /// <param name="page">Page index: first position / page tokens.</param>
    /// <param name="mean">
    /// Receives the mean key, <c>[key width]</c>, in the plain basis, in which keys were appended. Of T formats it is the mean of
    /// the keys divided by their rms, times the page's mean rms: exact where all keys of the page have one length.
    /// </param>
    /// <param name="deviation">
    /// Receives the standard deviation of each element, <c>[key width]</c>, in the basis in which the page lies: rotated for I8 and T formats
    /// (<see cref="Rotation"/>), else plain; a deviation by element does not survive a change of basis, its norm over the elements does. Of T
    /// formats, times the page's mean rms, as the mean is.
    /// </param>
    /// <returns>False, and nothing is written, where the page carries none: open pages, and those that their own format could not hold.</returns>
    /// <exception cref="ArgumentException">No such layer, head or resident page, or a target too short.</exception>
    public bool PageDigest(int layer, int head, int page, Span<float> mean, Span<float> deviation)
    {
        int row = RowOf(layer, head);
        using Call call = new(this);
        int width = Cache.Geometry.KeyWidth;
        KvCache.ThrowIfShorter(mean.Length, width, nameof(mean));
        KvCache.ThrowIfShorter(deviation.Length, width, nameof(deviation));
        int entry = Table.EntryOf(row, page);
        if (entry < 0)
        {
            throw new ArgumentOutOfRangeException(nameof(page), page, $"expected a resident page of layer {layer}, head {head}, got {page}");
        }

        return ReadDigest(row, entry, mean, deviation);
    }

    /// <summary>The same of a row's entry; of the mean alone where there is no room for the deviation. The sequence is the caller's.</summary>
    internal bool ReadDigest(int row, int entry, Span<float> mean, Span<float> deviation)
    {
        if (Table.PageClass(row, entry) == KernelShape.Open)
        {
            return false;
        }

        int width = Cache.Geometry.KeyWidth;
        PageLayout layout = Cache.Tier.Shape.Classes[Table.PageClass(row, entry)];

        long word = (long)Table.Slot(row, entry) * PageLayout.UnitWords;
        Span<int> words = stackalloc int[deviation.IsEmpty ? layout.DigestStride / 2 : layout.DigestStride];
        Span<int> scales = stackalloc int[layout.ScaleStride / 2];
        lock (Cache.DeviceGate)
        {
            Cache.Tier.Read(word + layout.DigestOffset, words);
            if (layout.KeyFormat.IsCentered())
            {
                Cache.Tier.Read(word + layout.KeyScaleOffset, scales);
            }
        }

        ReadOnlySpan<Half> digest = MemoryMarshal.Cast<int, Half>(words);
        float unit = layout.KeyFormat.IsCentered() ? Mean(MemoryMarshal.Cast<int, Half>(scales)[..Table.TokensIn(row, entry)]) : 1;
        for (int i = 0; i < width; i++)
        {
            mean[i] = (float)digest[i] * unit;
        }

        for (int i = 0; i < width && !deviation.IsEmpty; i++)
        {
            deviation[i] = (float)digest[layout.DigestStride + i] * unit;
        }

        if (layout.KeyFormat.IsRotated())
        {
            Rotation.Undo(mean[..width], Cache.KeySigns);
        }

        return true;
    }

    private static float Mean(ReadOnlySpan<Half> numbers)
    {
        float sum = 0;
        foreach (Half number in numbers)
        {
            sum += (float)number;
        }

        return sum / numbers.Length;
    }
}
