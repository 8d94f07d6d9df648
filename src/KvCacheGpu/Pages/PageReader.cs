using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Reads pages back: whole, decoded, or their digests alone. The caller holds the pages.</summary>
internal sealed class PageReader(KernelTier tier, Gate deviceGate)
{
    private const int ReadsAtOnce = 256;

    private readonly KvGeometry _geometry = tier.Shape.Geometry;

    // Signs of the keys' rotation.
    private float[] KeySigns => field ??= Rotation.Signs(_geometry.KeyWidth, tier.Shape.RotationSeed);

    /// <summary>Copies the words of a page.</summary>
    public void Read(int slot, Span<int> words)
    {
        using (deviceGate.Enter())
        {
            tier.Read((long)slot * PageLayout.UnitWords, words);
        }
    }

    /// <summary>Decodes the pages of rows that follow each other, in the plain basis.</summary>
    /// <param name="table">The sequence's table.</param>
    /// <param name="firstRow">First row.</param>
    /// <param name="rows">Rows, which list pages of the same tokens.</param>
    /// <param name="keys"><c>[tokens][rows][key width]</c>, or without room.</param>
    /// <param name="values"><c>[tokens][rows][value width]</c>, or without room.</param>
    public void Decode(PageTable table, int firstRow, int rows, KvOutput keys, KvOutput values)
    {
        using (deviceGate.Enter())
        {
            Decode(null, table, firstRow, rows, 0, keys, values);
        }
    }

    /// <summary>Decodes the pages of a layer, with those tokens of a step under way that it has appended, in the order of the step's launches.</summary>
    /// <param name="batch">The step's.</param>
    /// <param name="table">The table of a sequence of the step.</param>
    /// <param name="layer">Layer, whose KV heads list pages of the same tokens.</param>
    /// <param name="ofStep">The sequence's tokens in the step.</param>
    /// <param name="keys"><c>[tokens][KV heads][key width]</c>, or without room.</param>
    /// <param name="values"><c>[tokens][KV heads][value width]</c>, or without room.</param>
    public void Decode(KernelBatch batch, PageTable table, int layer, int ofStep, KvOutput keys, KvOutput values) =>
        Decode(batch, table, layer * _geometry.KvHeads, _geometry.KvHeads, ofStep, keys, values);

    private void Decode(KernelBatch? batch, PageTable table, int firstRow, int rows, int ofStep, KvOutput keys, KvOutput values)
    {
        Span<PageRead> reads = stackalloc PageRead[ReadsAtOnce];
        int pending = 0;
        for (int i = 0; i < rows; i++)
        {
            int row = firstRow + i;
            int vector = i;
            for (int entry = 0; entry < table.Count(row); entry++)
            {
                int tokens = table.TokensIn(row, entry, ofStep);
                reads[pending++] = new PageRead(table.Slot(row, entry), table.PageClass(row, entry), tokens, vector, rows, table.KeyRow(row));
                vector += tokens * rows;
                if (pending == reads.Length)
                {
                    Materialize(batch, reads, keys, values);
                    pending = 0;
                }
            }
        }

        Materialize(batch, reads[..pending], keys, values);
    }

    private void Materialize(KernelBatch? batch, ReadOnlySpan<PageRead> reads, KvOutput keys, KvOutput values)
    {
        if (batch is null)
        {
            tier.Materialize(reads, keys, values);
        }
        else
        {
            batch.Materialize(reads, keys, values);
        }
    }

    /// <summary>Decodes the first tokens of some entries of a row, one after the other.</summary>
    /// <param name="table">The sequence's table.</param>
    /// <param name="row">Row.</param>
    /// <param name="firstEntry">First entry.</param>
    /// <param name="lastEntry">Last entry: <see cref="ReadsAtOnce"/> at most.</param>
    /// <param name="tokens">Tokens of each.</param>
    /// <param name="keys"><c>[entries][tokens][key width]</c>.</param>
    /// <param name="values"><c>[entries][tokens][value width]</c>.</param>
    public void Decode(PageTable table, int row, int firstEntry, int lastEntry, int tokens, KvOutput keys, KvOutput values)
    {
        Span<PageRead> room = stackalloc PageRead[ReadsAtOnce];
        Span<PageRead> reads = room[..(lastEntry - firstEntry + 1)];
        for (int i = 0; i < reads.Length; i++)
        {
            reads[i] = new PageRead(table.Slot(row, firstEntry + i), table.PageClass(row, firstEntry + i), tokens, i * tokens, 1, table.KeyRow(row));
        }

        using (deviceGate.Enter())
        {
            tier.Materialize(reads, keys, values);
        }
    }

    /// <summary>Decodes the keys of the newest pages of a row that are whole.</summary>
    /// <param name="table">The sequence's table.</param>
    /// <param name="row">Row.</param>
    /// <param name="whole">Pages from this index on are not.</param>
    /// <param name="most">The most pages.</param>
    /// <param name="keys">Receives <c>[pages][page tokens][key width]</c>: room for as many.</param>
    /// <returns>How many pages there are.</returns>
    public int DecodeNewestKeys(PageTable table, int row, int whole, int most, Span<float> keys)
    {
        int end = table.Count(row);
        while (end > 0 && table.PageIndex(row, end - 1) >= whole)
        {
            end--;
        }

        int pages = Math.Min(end, most);
        if (pages > 0)
        {
            Decode(table, row, end - pages, end - 1, _geometry.PageTokens, keys, default);
        }

        return pages;
    }

    /// <summary>Reads the mean and the deviation of a sealed page's keys; of the mean alone if there is no room for the deviation.</summary>
    /// <param name="table">The sequence's table.</param>
    /// <param name="scales">The scales that the sequence's T pages are under, or null.</param>
    /// <param name="row">Row.</param>
    /// <param name="entry">The page's entry.</param>
    /// <param name="mean">Receives the mean key, in the plain basis.</param>
    /// <param name="deviation">Receives the deviation, in the basis in which the page lies, or has no room.</param>
    /// <returns>False, and nothing is written, if the page carries none: it is open, or its own format could not hold it.</returns>
    public bool ReadDigest(PageTable table, KvKeyScales? scales, int row, int entry, Span<float> mean, Span<float> deviation)
    {
        if (table.PageClass(row, entry) == KernelShape.Open)
        {
            return false;
        }

        int width = _geometry.KeyWidth;
        PageLayout layout = tier.Shape.Classes[table.PageClass(row, entry)];
        long word = (long)table.Slot(row, entry) * PageLayout.UnitWords;
        Span<int> words = stackalloc int[deviation.IsEmpty ? layout.DigestStride / 2 : layout.DigestStride];
        Span<int> units = stackalloc int[layout.ScaleStride / 2];
        using (deviceGate.Enter())
        {
            tier.Read(word + layout.DigestOffset, words);
            if (layout.KeyFormat.IsCentered())
            {
                tier.Read(word + layout.KeyScaleOffset, units);
            }
        }

        ReadOnlySpan<Half> digest = MemoryMarshal.Cast<int, Half>(words);
        float unit = layout.KeyFormat.IsCentered() ? Mean(MemoryMarshal.Cast<int, Half>(units)[..table.TokensIn(row, entry)]) : 1;
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
            Rotation.Undo(mean[..width], KeySigns);
        }

        for (int i = 0; i < width && layout.KeyFormat.IsCentered() && scales is not null; i++)
        {
            mean[i] = MathF.ScaleB(mean[i], -scales.Of(row)[i]);
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
