using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace KvCacheGpu.Kernels;

/// <summary>
/// One page as attention reads it: its scales as floats, its mean, and, where it is read so, its elements expanded. Made once a page; then
/// four queries at a time.
/// </summary>
internal readonly unsafe struct PageView<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    private const int LineBytes = 64;

    private readonly AttendScratch _scratch;
    private readonly PageLayout _layout;
    private readonly KvGeometry _g;
    private readonly int* _page;
    private readonly int* _ahead;
    private readonly float* _keyScales;
    private readonly float* _keyOffsets;
    private readonly float* _valueScales;
    private readonly bool _expandsKeys;
    private readonly bool _expandsValues;
    private readonly bool _pairsKeys;
    private readonly bool _pairsValues;

    /// <param name="layout">The page's layout.</param>
    /// <param name="page">The page.</param>
    /// <param name="ahead">The page that is read next.</param>
    /// <param name="g">The shape.</param>
    /// <param name="scratch">The worker's.</param>
    /// <param name="tokens">Tokens of the page that any query sees.</param>
    /// <param name="isChunk">True if many queries attend to the page.</param>
    /// <param name="keysOnly">True if values are not read.</param>
    /// <param name="isFast">True if formats that can be are read in whole numbers.</param>
    public PageView(PageLayout layout, int* page, int* ahead, KvGeometry g, AttendScratch scratch, int tokens, bool isChunk, bool keysOnly, bool isFast)
    {
        (_layout, _g, _scratch) = (layout, g, scratch);
        _page = page;
        _ahead = ahead;
        Rotated = layout.ValueFormat.IsRotated() ? 1 : 0;
        _pairsKeys = isFast && SimdFormats.HasPairKeys(layout.KeyFormat);
        _pairsValues = isFast && !keysOnly && SimdFormats.HasPairValues<S, F, I>(layout.ValueFormat, g.ValueWidth);
        _expandsKeys = !_pairsKeys && SimdFormats.ExpandsKeys(layout.KeyFormat, isChunk);
        _expandsValues = !keysOnly && !_pairsValues && SimdFormats.ExpandsValues<S, F, I>(layout.ValueFormat, g.ValueWidth, isChunk);
        FetchScales();
        int stride = scratch.LogitStride;
        if (layout.KeyScalePlanes > 0)
        {
            SimdFormats.ReadScales<S, F, I>(page + layout.KeyScaleOffset, layout.KeyScalePlanes, layout.ScaleStride, tokens, scratch.KeyScales, stride);
            _keyScales = scratch.KeyScales;
        }

        if (layout.KeyFormat.IsCentered())
        {
            _keyOffsets = scratch.KeyScales;
            _keyScales = scratch.KeyScales + stride;
            for (int t = 0; t < tokens; t += S.Lanes)
            {
                S.Store(_keyScales + t, S.Multiply(S.Load(_keyScales + t), S.Load(_keyOffsets + t)));
            }

            SimdFormats.ReadScales<S, F, I>(page + layout.DigestOffset, 1, 0, g.KeyWidth, scratch.Mean, 0);
        }

        if (layout.ValueScalePlanes > 0 && !keysOnly)
        {
            SimdFormats.ReadScales<S, F, I>(page + layout.ValueScaleOffset, layout.ValueScalePlanes, layout.ScaleStride, tokens, scratch.ValueScales, stride);
        }

        if (_expandsKeys)
        {
            SimdFormats.ExpandKeys<S, F, I>(layout, page, tokens, scratch.KeyScales, scratch.Keys, stride);
            _keyScales = layout.KeyFormat.IsCentered() ? _keyScales : null;
        }
        else if (layout.KeyFormat is PageFormat.Q8 or PageFormat.Q4)
        {
            // The loops over blocks have used them already.
            _keyScales = null;
        }

        if (_expandsValues)
        {
            SimdFormats.ExpandValues<S, F, I>(layout, page, g.ValueWidth, tokens, scratch.ValueScales, stride, scratch.Values, scratch.OutputStride);
        }

        _valueScales = !keysOnly && layout.ValueFormat is PageFormat.I8 or PageFormat.V3 or PageFormat.V2 ? scratch.ValueScales : null;
    }

    /// <summary>The form of the queries that the page's class reads with.</summary>
    public int Variant { get; init; }

    /// <summary>The page's class.</summary>
    public int PageClass { get; init; }

    /// <summary>True if F16 may hold NaN and infinities.</summary>
    public bool KeepsNonFinite { get; init; }

    /// <summary>1 where values lie in the rotated basis, else 0.</summary>
    public int Rotated { get; }

    /// <summary>True if two blocks of queries are worked on together: there are registers for it, and each word is expanded for eight queries then.</summary>
    public bool TakesEight
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => S.Lanes == 16 && !KeepsNonFinite && (_expandsKeys || _layout.KeyFormat is not (PageFormat.Q8 or PageFormat.Q4));
    }

    /// <summary>Raw logits of a block of four queries or of two such, and their products with the page's mean.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Logits(int block, int blocks, int tokens, SoftmaxState* state)
    {
        float* q = _scratch.QueryBlock(Variant, block);
        float* more = blocks == 2 ? _scratch.QueryBlock(Variant, block + 1) : null;
        int stride = _scratch.LogitStride;
        if (_keyOffsets != null)
        {
            Vector128<float> mean = TimesMean(q);
            mean.Store(state->Mean);
            if (more != null)
            {
                mean = TimesMean(more);
                mean.Store(state[1].Mean);
            }
        }

        if (_pairsKeys)
        {
            PairQueries pairs = _scratch.PairsOf(PageClass, block), rest = more != null ? _scratch.PairsOf(PageClass, block + 1) : default;
            if (_layout.KeyFormat == PageFormat.I8)
            {
                PairLogits<S, F, I>.Compute<PairKeysI8>(_page, (byte*)_ahead, _layout.PageTokens, _layout.KeyWords, pairs, rest, tokens, _scratch.Logits, stride);
            }
            else
            {
                PairLogits<S, F, I>.Compute<PairKeysT4>(_page, (byte*)_ahead, _layout.PageTokens, _layout.KeyWords, pairs, rest, tokens, _scratch.Logits, stride);
            }

            return;
        }

        if (_expandsKeys)
        {
            // Nothing is left to prefetch: the expanded keys lie in the scratch.
            SimdFormats.Logits<S, F, I>(
                PageFormat.F32, (int*)_scratch.Keys, (byte*)_scratch.Keys, stride, _g.KeyWidth, q, more, tokens, _scratch.Logits, stride);
            return;
        }

        if (_layout.KeyFormat == PageFormat.Q8)
        {
            BlockLogits<S, F, I>.Compute<BlockKeysQ8>(_page, (byte*)_ahead, _layout.PageTokens, _layout.KeyWords, _scratch.KeyScales, q, tokens, _scratch.Logits, stride);
            return;
        }

        if (_layout.KeyFormat == PageFormat.Q4)
        {
            BlockLogits<S, F, I>.Compute<BlockKeysQ4>(_page, (byte*)_ahead, _layout.PageTokens, _layout.KeyWords, _scratch.KeyScales, q, tokens, _scratch.Logits, stride);
            return;
        }

        if (KeepsNonFinite && _layout.KeyFormat == PageFormat.F16)
        {
            PageLogits<S, F, I>.Compute<Whole<SimdF16Kept>>(_page, (byte*)_ahead, _layout.PageTokens, _layout.KeyWords, q, more, tokens, _scratch.Logits, stride);
            return;
        }

        SimdFormats.Logits<S, F, I>(
            _layout.KeyFormat, _page, (byte*)_ahead, _layout.PageTokens, _layout.KeyWords, q, more, tokens, _scratch.Logits, stride);
    }

    /// <summary>Turns the raw logits of the first block of the call to <see cref="Logits"/>, or of its second, into weights.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Weigh(int second, int tokens, SoftmaxState* state)
    {
        int padded = (tokens + S.Lanes - 1) / S.Lanes * S.Lanes;
        float factor = SimdFormats.Factor(_layout.ValueFormat) * _scratch.Shrink;
        PageSoftmax<S, F, I>.Update(_scratch.Logits + (4 * second * _scratch.LogitStride), _scratch.LogitStride, padded, _keyScales, _keyOffsets, _valueScales, factor, state);
    }

    /// <summary>Adds the weighted values to the outputs of four queries, or of eight, whose states follow one another.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Accumulate(float* output, int rows, int tokens, SoftmaxState* state)
    {
        int stride = _scratch.LogitStride, outputStride = _scratch.OutputStride, width = _g.ValueWidth;
        if (_expandsValues)
        {
            var expanded = (byte*)_scratch.Values;
            SimdFormats.Accumulate<S, F, I>(
                PageFormat.F32, expanded, outputStride * sizeof(float), expanded, _scratch.Logits, stride, tokens, output, outputStride, 0, width, state->Keep, state->Nothing, rows);
            return;
        }

        var values = (byte*)(_page + _layout.ValueOffset);
        var ahead = (byte*)(_ahead + _layout.ValueOffset);
        int vectorBytes = _layout.ValueWords * sizeof(int);
        if (_pairsValues && _layout.ValueFormat == PageFormat.I8)
        {
            Round(_scratch.Logits, rows, tokens, state);
            PairOutput<S, F, I>.Accumulate<PairValuesI8>(
                values, vectorBytes, ahead, _scratch.Pairs, stride, tokens, output, outputStride, 0, width, state, isBiased: false, _scratch.PairSteps, rows);
            return;
        }

        if (KeepsNonFinite && _layout.ValueFormat == PageFormat.F16)
        {
            PageOutput<S, F, I>.Accumulate<Whole<SimdF16Kept>>(
                values, vectorBytes, ahead, _scratch.Logits, stride, tokens, output, outputStride, 0, width, state->Keep, state->Nothing, rows);
            return;
        }

        if (_layout.ValueFormat is PageFormat.Q8 or PageFormat.Q4)
        {
            AccumulateBlocks(values, vectorBytes, ahead, output, rows, tokens, state);
            return;
        }

        if (_layout.ValueFormat != PageFormat.V4)
        {
            SimdFormats.Accumulate<S, F, I>(
                _layout.ValueFormat, values, vectorBytes, ahead, _scratch.Logits, stride, tokens, output, outputStride, 0, width, state->Keep, state->Nothing, rows);
            return;
        }

        int group = PageFormat.V4.ScaleGroup(width);
        float* scales = _scratch.ValueScales;
        for (int from = 0; from < width; from += group, scales += 2 * stride)
        {
            for (int half = 0; 4 * half < rows; half++)
            {
                int at = 4 * half * stride;
                PageSoftmax<S, F, I>.WeighGroup(_scratch.Logits + at, stride, tokens, scales, scales + stride, _scratch.Weights + at, state + half);
            }

            if (_pairsValues)
            {
                Round(_scratch.Weights, rows, tokens, state);
                for (int half = 0; 4 * half < rows; half++)
                {
                    // Codes are 7.5 on the average, and the minimum takes that away: of a sum that rounding changed it would take too much or too little.
                    float* bias = state[half].Bias;
                    (Vector128.Load(bias) + (Vector128.Load(_scratch.PairSteps + (8 * half) + 4) * 7.5f)).Store(bias);
                }

                PairOutput<S, F, I>.Accumulate<PairValuesV4>(
                    values, vectorBytes, ahead, _scratch.Pairs, stride, tokens, output, outputStride, from, from + group, state, isBiased: true, _scratch.PairSteps, rows);
                continue;
            }

            SimdFormats.Accumulate<S, F, I>(
                PageFormat.V4, values, vectorBytes, ahead, _scratch.Weights, stride, tokens, output, outputStride, from, from + group, state->Keep, state->Bias, rows);
        }
    }

    // Weights as whole numbers.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Round(float* weights, int rows, int tokens, SoftmaxState* state)
    {
        int stride = _scratch.LogitStride;
        for (int half = 0; 4 * half < rows; half++)
        {
            int at = 4 * half * stride;
            PairOutput<S, F, I>.Round(weights + at, stride, tokens, state[half].PageSum, _scratch.Pairs + at, _scratch.PairSteps + (8 * half));
        }
    }

    // Values of ggml's formats: the weights of each block hold its scales.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void AccumulateBlocks(byte* values, int vectorBytes, byte* ahead, float* output, int rows, int tokens, SoftmaxState* state)
    {
        int stride = _scratch.LogitStride;
        float zero = _layout.ValueFormat == PageFormat.Q4 ? -8f : 0f;
        float* scales = _scratch.ValueScales;
        for (int from = 0; from < _g.ValueWidth; from += GgmlCodes.Elements, scales += stride)
        {
            for (int half = 0; 4 * half < rows; half++)
            {
                int at = 4 * half * stride;
                PageSoftmax<S, F, I>.WeighBlock(_scratch.Logits + at, stride, tokens, scales, zero, _scratch.Weights + at, state + half);
            }

            SimdFormats.Accumulate<S, F, I>(
                _layout.ValueFormat, values, vectorBytes, ahead, _scratch.Weights, stride, tokens, output, _scratch.OutputStride, from, from + GgmlCodes.Elements, state->Keep, state->Bias, rows);
        }
    }

    // q . mu of four queries; four sums hide the additions' latency.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private Vector128<float> TimesMean(float* q)
    {
        float* mean = _scratch.Mean;
        if (S.Lanes == 16 && Avx512F.IsSupported)
        {
            return TimesMean512(q, mean, _g.KeyWidth);
        }

        Vector128<float> a = default, b = default, c = default, d = default;
        for (int i = 0; i < _g.KeyWidth; i += 4, q += 16)
        {
            a = Vector128.MultiplyAddEstimate(Vector128.Load(q), Vector128.Create(mean[i]), a);
            b = Vector128.MultiplyAddEstimate(Vector128.Load(q + 4), Vector128.Create(mean[i + 1]), b);
            c = Vector128.MultiplyAddEstimate(Vector128.Load(q + 8), Vector128.Create(mean[i + 2]), c);
            d = Vector128.MultiplyAddEstimate(Vector128.Load(q + 12), Vector128.Create(mean[i + 3]), d);
        }

        return (a + b) + (c + d);
    }

    // The same, four elements a vector. Queries are zero from the width on, and the numbers behind the mean are finite.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static Vector128<float> TimesMean512(float* q, float* mean, int width)
    {
        var first = Vector512.Create(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
        Vector512<int> second = first + Vector512.Create(4), third = first + Vector512.Create(8), fourth = first + Vector512.Create(12);
        Vector512<float> a = default, b = default, c = default, d = default;
        for (int i = 0; i < width; i += 16, q += 64)
        {
            Vector512<float> m = Vector512.Load(mean + i);
            a = Vector512.MultiplyAddEstimate(Vector512.Load(q), Avx512F.PermuteVar16x32(m, first), a);
            b = Vector512.MultiplyAddEstimate(Vector512.Load(q + 16), Avx512F.PermuteVar16x32(m, second), b);
            c = Vector512.MultiplyAddEstimate(Vector512.Load(q + 32), Avx512F.PermuteVar16x32(m, third), c);
            d = Vector512.MultiplyAddEstimate(Vector512.Load(q + 48), Avx512F.PermuteVar16x32(m, fourth), d);
        }

        a = (a + b) + (c + d);
        Vector256<float> half = a.GetLower() + a.GetUpper();
        return half.GetLower() + half.GetUpper();
    }

    // Scales and mean of the page that is read next; its elements are fetched by the loops over this one's.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void FetchScales()
    {
        if (S.Lanes > 1 && Sse.IsSupported)
        {
            var end = (byte*)(_ahead + _layout.DigestOffset + (_layout.KeyFormat.IsCentered() ? _layout.DigestStride / 2 : 0));
            for (var line = (byte*)(_ahead + _layout.KeyScaleOffset); line < end; line += LineBytes)
            {
                Sse.Prefetch1(line);
            }
        }
    }
}
