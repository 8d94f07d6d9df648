using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Reads one sequence between steps. The sequence is the caller's.</summary>
internal readonly struct SequenceReader(CacheState cache, SequenceState sequence)
{
    private PageTable Table => sequence.Table;

    private KvGeometry Geometry => cache.Geometry;

    /// <summary>Tokens that a policy dropped, those in host memory not counted: the mean over layers and KV heads.</summary>
    public double EvictedTokens()
    {
        long resident = (long)(sequence.Away?.Count ?? 0) * Geometry.PageTokens;
        for (int row = 0; row < Table.Rows; row++)
        {
            resident += Table.ResidentTokens(row);
        }

        return Table.Length - ((double)resident / Table.Rows);
    }

    /// <summary>Writes the positions of a row's resident tokens, ascending.</summary>
    /// <returns>How many.</returns>
    public int PositionsOf(int row, Span<int> positions)
    {
        int tokens = Table.ResidentTokens(row);
        Guard.ThrowIfShorter(positions.Length, tokens, nameof(positions));
        int written = 0;
        for (int entry = 0; entry < Table.Count(row); entry++)
        {
            written += Table.PositionsOf(row, entry, positions[written..]);
        }

        return tokens;
    }

    /// <summary>Decodes the resident tokens of a layer over all KV heads, which must list the same pages.</summary>
    /// <exception cref="KvUnsupportedException">E009: they list different pages, or a target lies on a device and pages in host memory.</exception>
    public int DecodeLayer(int layer, Span<int> positions, KvOutput keys, KvOutput values)
    {
        ThrowIfUneven(layer);
        return Decode(layer * Geometry.KvHeads, Geometry.KvHeads, positions, keys, values);
    }

    /// <summary>Decodes the tokens of a layer that are resident inside of a step, those that the step has appended among them.</summary>
    /// <inheritdoc cref="DecodeLayer(int, Span{int}, KvOutput, KvOutput)"/>
    public int DecodeLayer(int layer, KernelBatch batch, KvOutput keys, KvOutput values)
    {
        ThrowIfUneven(layer);
        int tokens = Table.ResidentTokens(layer * Geometry.KvHeads, sequence.StepTokens);
        keys = TargetFor(keys, tokens, Geometry.KvHeads, Geometry.KeyWidth, nameof(keys));
        values = TargetFor(values, tokens, Geometry.KvHeads, Geometry.ValueWidth, nameof(values));
        try
        {
            cache.Reader.Decode(batch, Table, layer, sequence.StepTokens, keys, values);
        }
        catch (NotSupportedException e)
        {
            throw Unsupported(e);
        }

        return tokens;
    }

    /// <summary>Decodes the resident tokens of rows that list the same pages, and tells their positions; what is empty is left out.</summary>
    /// <returns>Tokens written.</returns>
    /// <exception cref="KvUnsupportedException">E009: a target lies on a device, and pages in host memory.</exception>
    public int Decode(int firstRow, int rows, Span<int> positions, KvOutput keys, KvOutput values)
    {
        int tokens = positions.IsEmpty ? Table.ResidentTokens(firstRow) : PositionsOf(firstRow, positions);
        keys = TargetFor(keys, tokens, rows, Geometry.KeyWidth, nameof(keys));
        values = TargetFor(values, tokens, rows, Geometry.ValueWidth, nameof(values));
        try
        {
            cache.Reader.Decode(Table, firstRow, rows, keys, values);
        }
        catch (NotSupportedException e)
        {
            throw Unsupported(e);
        }

        return tokens;
    }

    /// <summary>Decodes one token of a layer over all KV heads.</summary>
    /// <returns>False if a policy dropped it in some KV head.</returns>
    public bool TryDecodeToken(int layer, int position, Span<float> keys, Span<float> values)
    {
        using var pageKeys = new Pooled<float>(Geometry.PageTokens * Geometry.KeyWidth);
        using var pageValues = new Pooled<float>(Geometry.PageTokens * Geometry.ValueWidth);
        for (int head = 0; head < Geometry.KvHeads; head++)
        {
            int row = (layer * Geometry.KvHeads) + head;
            if (!Table.TryFind(row, position, out int entry, out int token))
            {
                return false;
            }

            cache.Reader.Decode(
                Table, row, entry, entry, token + 1, pageKeys.Span[..((token + 1) * Geometry.KeyWidth)], pageValues.Span[..((token + 1) * Geometry.ValueWidth)]);
            pageKeys.Span.Slice(token * Geometry.KeyWidth, Geometry.KeyWidth).CopyTo(keys[(head * Geometry.KeyWidth)..]);
            pageValues.Span.Slice(token * Geometry.ValueWidth, Geometry.ValueWidth).CopyTo(values[(head * Geometry.ValueWidth)..]);
        }

        return true;
    }

    /// <summary>The share of attention that each resident page of a query head received from the last token of the last committed step.</summary>
    /// <returns>Pages written; 0 if the tables hold no such statistics.</returns>
    /// <exception cref="KvUnsupportedException">E009: the cache keeps none.</exception>
    public int PageMass(int layer, int queryHead, Span<float> mass)
    {
        if (!cache.Tier.Shape.HasStatistics)
        {
            throw new KvUnsupportedException(
                nameof(PageMass), $"{nameof(KvCacheOptions.PageStatistics)}, or a policy that goes by attention", "a cache that keeps no statistics of pages");
        }

        if (!sequence.Attended[layer])
        {
            return 0;
        }

        int head = queryHead / Geometry.GroupSize;
        int row = (layer * Geometry.KvHeads) + head;
        int pages = Table.Count(row);
        Guard.ThrowIfShorter(mass.Length, pages, nameof(mass));
        KernelTier tier = cache.Tier;
        int inGroup = queryHead % Geometry.GroupSize;
        Span<int> words = stackalloc int[2];
        using (cache.DeviceGate.Enter())
        {
            tier.Read(tier.Map.LogSumExpWord(Table.Sequence, row, inGroup), words[..1]);
            float logSumExp = MemoryMarshal.Cast<int, float>(words)[0];
            for (int entry = 0; entry < pages; entry++)
            {
                tier.Read(tier.StatsWord(Table.Sequence, row, Table.PageIndex(row, entry)) + (2 * inGroup), words);
                ReadOnlySpan<float> stats = MemoryMarshal.Cast<int, float>(words);
                mass[entry] = stats[1] == 0 ? 0 : stats[1] * MathF.Exp(stats[0] - logSumExp);
            }
        }

        return pages;
    }

    /// <summary>The share of attention that each resident token of a row would receive from a query.</summary>
    /// <returns>Tokens written.</returns>
    public int TokenMass(int row, ReadOnlySpan<float> query, Span<float> mass, Span<int> positions)
    {
        int tokens = Table.ResidentTokens(row);
        Guard.ThrowIfShorter(query.Length, Geometry.KeyWidth, nameof(query));
        Guard.ThrowIfShorter(mass.Length, tokens, nameof(mass));
        using var keys = new Pooled<float>(Math.Max(1, tokens * Geometry.KeyWidth));
        Decode(row, 1, positions, keys.Span, default);
        double largest = double.NegativeInfinity;
        for (int token = 0; token < tokens; token++)
        {
            mass[token] = (float)Geometry.LogitOf(Dot(query, keys.Span.Slice(token * Geometry.KeyWidth, Geometry.KeyWidth)));
            largest = Math.Max(largest, mass[token]);
        }

        double sum = 0;
        for (int token = 0; token < tokens; token++)
        {
            mass[token] = (float)Math.Exp(mass[token] - largest);
            sum += mass[token];
        }

        for (int token = 0; token < tokens; token++)
        {
            mass[token] = (float)(mass[token] / sum);
        }

        return tokens;
    }

    private static double Dot(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        double sum = 0;
        for (int i = 0; i < b.Length; i++)
        {
            sum += (double)a[i] * b[i];
        }

        return sum;
    }

    private static KvOutput TargetFor(KvOutput target, int tokens, int rows, int width, string name) =>
        target.Length == 0 ? target : target.First(checked(tokens * rows), width, name);

    private KvUnsupportedException Unsupported(NotSupportedException inner) =>
        new($"Read on {cache.Tier.Name}", "memory that the device writes", inner.Message, inner);

    private void ThrowIfUneven(int layer)
    {
        int firstRow = layer * Geometry.KvHeads;
        for (int head = 1; head < Geometry.KvHeads; head++)
        {
            if (!Table.ListsSamePages(firstRow, firstRow + head))
            {
                throw new KvUnsupportedException(
                    $"Read of layer {layer}", "the same pages in every KV head", $"other pages in head {head} than in head 0, because a policy dropped pages head by head");
            }
        }
    }
}
