namespace KvCacheGpu.Kernels;

/// <summary>Writes pages from pages: an item is one page.</summary>
internal sealed unsafe class SimdTranscode<S, F, I> : SimdTranscodeWork
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    private readonly SimdTier _tier;
    private readonly int _stride;

    public SimdTranscode(SimdTier tier)
    {
        _tier = tier;
        _stride = (tier.Shape.Geometry.PageTokens + 15) & ~15;
    }

    /// <inheritdoc/>
    public override long Floats =>
        (long)Math.Max(_tier.Shape.Geometry.KeyWidth, _tier.Shape.Geometry.ValueWidth) * _stride * 2;

    /// <inheritdoc/>
    public override void Do(int item, int worker)
    {
        PageMove move = Moves[item];
        PageLayout from = _tier.Shape.Classes[move.SourceClass];
        PageLayout to = _tier.Shape.Classes[move.TargetClass];
        int* source = _tier.Page(move.SourceSlot);
        int* target = _tier.Page(move.TargetSlot);
        if (from == to)
        {
            Buffer.MemoryCopy(source, target, to.Bytes, from.Bytes);
            return;
        }

        float* scratch = _tier.TranscodeScratch(worker);
        Keys(from, to, source, target, move.Tokens, scratch);
        Values(from, to, source, target, move.Tokens, scratch);
    }

    private void Keys(PageLayout from, PageLayout to, int* source, int* target, int tokens, float* scratch)
    {
        int width = _tier.Shape.Geometry.KeyWidth;
        if (from.KeyFormat == to.KeyFormat)
        {
            new Span<int>(source, from.ValueOffset).CopyTo(new Span<int>(target, to.ValueOffset));
            CopyScales(source + from.KeyScaleOffset, target + to.KeyScaleOffset, to.KeyFormat);
            return;
        }

        float* vector = scratch + ((long)width * _stride);
        if (!to.KeyFormat.IsFullPrecision())
        {
            SpreadKeys(from, source, scratch);
            ClearTail(scratch, width, tokens);
            var words = (int*)vector;
            PageEncode<S, F, I>.ToI8(scratch, width, _stride, _tier.KeySigns, words, (ushort*)(target + to.KeyScaleOffset), tokens);
            for (int w = 0; w < to.KeyWords; w++)
            {
                new Span<int>(words + (w * _stride), tokens).CopyTo(new Span<int>(target + (w * to.PageTokens), tokens));
            }

            return;
        }

        for (int t = 0; t < tokens; t++)
        {
            PageVector.ReadKey(from, source, t, width, _tier.KeySigns, vector);
            PageVector.Saturate(to.KeyFormat, vector, width);
            PageVector.Write(to.KeyFormat, vector, width, target + t, to.PageTokens);
        }
    }

    private void Values(PageLayout from, PageLayout to, int* source, int* target, int tokens, float* scratch)
    {
        int width = _tier.Shape.Geometry.ValueWidth;
        int* values = target + to.ValueOffset;
        if (from.ValueFormat == to.ValueFormat)
        {
            int words = from.ValueWords * tokens;
            new Span<int>(source + from.ValueOffset, words).CopyTo(new Span<int>(values, words));
            CopyScales(source + from.ValueScaleOffset, target + to.ValueScaleOffset, to.ValueFormat);
            return;
        }

        float* vector = scratch + ((long)width * _stride);
        if (!to.ValueFormat.IsFullPrecision())
        {
            SpreadValues(from, source, tokens, scratch, vector);
            ClearTail(scratch, width, tokens);
            var words = (int*)vector;
            PageEncode<S, F, I>.ToI8(scratch, width, _stride, _tier.ValueSigns, words, (ushort*)(target + to.ValueScaleOffset), tokens);
            for (int t = 0; t < tokens; t++, values += to.ValueWords)
            {
                for (int w = 0; w < to.ValueWords; w++)
                {
                    values[w] = words[(w * _stride) + t];
                }
            }

            return;
        }

        for (int t = 0; t < tokens; t++)
        {
            PageVector.ReadValue(from, source, t, width, _tier.ValueSigns, vector);
            PageVector.Saturate(to.ValueFormat, vector, width);
            PageVector.Write(to.ValueFormat, vector, width, values + (t * to.ValueWords), 1);
        }
    }

    private void SpreadKeys(PageLayout from, int* page, float* part)
    {
        switch (from.KeyFormat)
        {
            case PageFormat.F32:
                SpreadPart<S, F, I>.Keys<SimdF32>(page, from.PageTokens, from.KeyWords, part, _stride);
                break;
            case PageFormat.F16:
                SpreadPart<S, F, I>.Keys<SimdF16>(page, from.PageTokens, from.KeyWords, part, _stride);
                break;
            default:
                SpreadPart<S, F, I>.Keys<SimdBF16>(page, from.PageTokens, from.KeyWords, part, _stride);
                break;
        }
    }

    private void SpreadValues(PageLayout from, int* page, int tokens, float* part, float* row)
    {
        int* values = page + from.ValueOffset;
        int width = _tier.Shape.Geometry.ValueWidth;
        switch (from.ValueFormat)
        {
            case PageFormat.F32:
                SpreadPart<S, F, I>.Values<SimdF32>(values, tokens, width, part, _stride, row);
                break;
            case PageFormat.F16:
                SpreadPart<S, F, I>.Values<SimdF16>(values, tokens, width, part, _stride, row);
                break;
            default:
                SpreadPart<S, F, I>.Values<SimdBF16>(values, tokens, width, part, _stride, row);
                break;
        }
    }

    // Lanes beyond the page's tokens are computed too: zeros there raise no slow denormals or NaNs.
    private void ClearTail(float* part, int width, int tokens)
    {
        for (int i = 0; tokens < _stride && i < width; i++)
        {
            new Span<float>(part + (i * _stride) + tokens, _stride - tokens).Clear();
        }
    }

    private void CopyScales(int* source, int* target, PageFormat format)
    {
        int bytes = 2 * _tier.Shape.Geometry.PageTokens;
        Buffer.MemoryCopy(source, target, bytes, bytes);
    }
}
