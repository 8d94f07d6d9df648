using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>Where the parts of a <see cref="KeySketch"/> lie, and which pages of a list a launch takes. Passed by value.</summary>
/// <param name="geometry">The model's shape.</param>
/// <param name="sketch">The layout.</param>
/// <param name="first">The first of the launch's pages in the list.</param>
/// <param name="norm">The rotation's norm.</param>
internal readonly struct SketchDims(KvGeometry geometry, KeySketch sketch, int first, float norm)
{
    public readonly int Width = geometry.KeyWidth;
    public readonly int PageTokens = geometry.PageTokens;
    public readonly int Scales = sketch.ScaleOffset;
    public readonly int Signs = sketch.SignOffset;
    public readonly int Words = sketch.Words;
    public readonly int First = first;
    public readonly float Norm = norm;
}

/// <summary>Queries of a launch of <see cref="SketchKernels.Score"/>, passed by value.</summary>
/// <param name="queries">How they lie.</param>
/// <param name="scale">Their factor.</param>
internal readonly struct SketchQueries(TensorDims queries, float scale)
{
    public readonly TensorDims Dims = queries;
    public readonly float Scale = scale;
}

/// <summary>Makes <see cref="KeySketch">sketches</see> of keys in page-locked host memory, and scores pages by those that lie there.</summary>
internal static class SketchKernels
{
    /// <summary>Words that describe one page to be scored: the first unit of its sketch in the host's block, its sequence in the batch, KV head.</summary>
    public const int ListWords = 3;

    /// <summary>Tokens that one group makes signs of: an even number, since the scales of two share a word.</summary>
    public const int TokensOfGroup = 8;

    // Queries that are multiplied at once.
    private const int AtOnce = 4;

    private const int WordBits = 32;

    /// <summary>Shared floats of a group of <see cref="Make"/>.</summary>
    public static int MakeFloats(int width, int threads) => (2 * width) + (2 * threads) + TokensOfGroup;

    /// <summary>Shared floats of a group of <see cref="Score"/>.</summary>
    public static int ScoreFloats(int width, int words, int threads) => words + (AtOnce * (width + threads));

    /// <summary>Keys[pages][P][width] in the plain basis -> sketches. Groups of a page share its tokens, and each takes its mean. Shared: mean[width], x[width], sums[2][DimX], scales[<see cref="TokensOfGroup"/>].</summary>
    /// <param name="keys">Keys of the list's pages.</param>
    /// <param name="list">Describes the pages as <see cref="TransferKernels"/> does.</param>
    /// <param name="host">The block in which all sketches of the launch lie.</param>
    /// <param name="signs">The rotation's signs.</param>
    /// <param name="call">Which pages.</param>
    public static void Make(ArrayView<float> keys, ArrayView<int> list, ArrayView<int> host, ArrayView<float> signs, SketchDims call)
    {
        int parts = (call.PageTokens + TokensOfGroup - 1) / TokensOfGroup;
        int page = call.First + (Grid.IdxX / parts);
        int first = Grid.IdxX % parts * TokensOfGroup;
        int end = first + TokensOfGroup < call.PageTokens ? first + TokensOfGroup : call.PageTokens;
        long from = (long)page * call.PageTokens * call.Width;
        long sketch = (long)list[(page * TransferKernels.ListWords) + 1] * PageLayout.UnitWords;
        ArrayView<float> shared = SharedMemory.GetDynamic<float>();
        ArrayView<float> mean = shared.SubView(0, call.Width);
        ArrayView<float> x = shared.SubView(call.Width, call.Width);
        ArrayView<float> sums = shared.SubView(2 * call.Width, 2 * Group.DimX);
        ArrayView<float> scales = shared.SubView((2 * call.Width) + (2 * Group.DimX), TokensOfGroup);
        Mean(keys, from, mean, signs, call);
        for (int w = Group.IdxX; w < call.Scales && first == 0; w += Group.DimX)
        {
            host[sketch + w] = Halves(mean, 2 * w, call.Width);
        }

        for (int t = first; t < end; t++)
        {
            for (int i = Group.IdxX; i < call.Width; i += Group.DimX)
            {
                x[i] = keys[from + ((long)t * call.Width) + i];
            }

            Group.Barrier();
            SharedVector.Rotate(x, call.Width, signs, 0, call.Norm);
            (float squares, float sizes) = (0f, 0f);
            for (int i = Group.IdxX; i < call.Width; i += Group.DimX)
            {
                float apart = x[i] - mean[i];
                x[i] = apart;
                squares += apart * apart;
                sizes += apart < 0f ? -apart : apart;
            }

            sums[Group.IdxX] = squares;
            sums[Group.DimX + Group.IdxX] = sizes;
            SharedVector.Sum(sums, 2);
            if (Group.IdxX == 0)
            {
                scales[t - first] = sums[Group.DimX] == 0f ? 0f : sums[0] / sums[Group.DimX];
            }

            for (int w = Group.IdxX; w * WordBits < call.Width; w += Group.DimX)
            {
                host[sketch + call.Signs + ((long)w * call.PageTokens) + t] = SignsOf(x, w * WordBits, call.Width);
            }

            Group.Barrier();
        }

        for (int w = Group.IdxX; 2 * w < end - first; w += Group.DimX)
        {
            host[sketch + call.Scales + (first / 2) + w] = Halves(scales, 2 * w, end - first);
        }
    }

    /// <summary>Sketches and queries -> one score a page. A group for each page. Shared: sketch[words], q[<see cref="AtOnce"/>][width], sums[<see cref="AtOnce"/>][DimX].</summary>
    public static void Score(
        ArrayView<int> batch,
        ArrayView<int> host,
        ArrayView<int> list,
        ArrayView<float> scores,
        ArrayView<ushort> queries,
        ArrayView<float> signs,
        SketchQueries tensor,
        SketchDims call,
        KernelDims dims)
    {
        int page = call.First + Grid.IdxX;
        int at = page * ListWords;
        ArrayView<float> shared = SharedMemory.GetDynamic<float>();
        ArrayView<float> sketch = shared.SubView(0, call.Words);
        ArrayView<float> q = shared.SubView(call.Words, AtOnce * call.Width);
        ArrayView<float> sums = shared.SubView(call.Words + (AtOnce * call.Width), AtOnce * Group.DimX);
        long from = (long)list[at] * PageLayout.UnitWords;
        for (int i = Group.IdxX; i < call.Words; i += Group.DimX)
        {
            sketch[i] = Interop.IntAsFloat((uint)host[from + i]);
        }

        int owner = dims.Sequences + (list[at + 1] * KernelDims.SequenceWords);
        int all = batch[owner + 2] * dims.GroupSize;
        int count = all < SketchScorer.MostQueries ? all : SketchScorer.MostQueries;
        float best = float.NegativeInfinity;
        for (int first = 0; first < count; first += AtOnce)
        {
            for (int r = 0; r < AtOnce; r++)
            {
                // Those beyond the last are the last again.
                int query = SketchScorer.QueryAt(first + r < count ? first + r : count - 1, count, all);
                int token = batch[owner + 1] + (query / dims.GroupSize);
                long vector = tensor.Dims.At(token, (list[at + 2] * dims.GroupSize) + (query % dims.GroupSize));
                for (int i = Group.IdxX; i < call.Width; i += Group.DimX)
                {
                    // The norm first: butterflies of the largest queries would leave binary32.
                    q[(r * call.Width) + i] = TypedElements.Load(queries, vector + i, tensor.Dims.Type) * (tensor.Scale * call.Norm);
                }
            }

            Group.Barrier();
            for (int r = 0; r < AtOnce; r++)
            {
                SharedVector.Rotate(q.SubView(r * call.Width, call.Width), call.Width, signs, 0, 1f);
                float center = 0f;
                for (int i = Group.IdxX; i < call.Width; i += Group.DimX)
                {
                    center += q[(r * call.Width) + i] * Half(sketch, 0, i);
                }

                sums[(r * Group.DimX) + Group.IdxX] = center;
            }

            SharedVector.Sum(sums, AtOnce);
            for (int t = Group.IdxX; t < call.PageTokens; t += Group.DimX)
            {
                best = Largest(sketch, q, sums, t, call, best);
            }

            Group.Barrier();
        }

        sums[Group.IdxX] = best;
        SharedVector.Largest(sums, 1);
        if (Group.IdxX == 0)
        {
            scores[page] = sums[0];
        }
    }

    // The products of one token with the queries at hand.
    private static float Largest(ArrayView<float> sketch, ArrayView<float> q, ArrayView<float> sums, int t, SketchDims call, float best)
    {
        (float a, float b, float c, float d) = (0f, 0f, 0f, 0f);
        for (int i = 0; i < call.Width; i++)
        {
            uint word = Interop.FloatAsInt(sketch[call.Signs + (i / WordBits * call.PageTokens) + t]);
            bool isAbove = ((word >> (i % WordBits)) & 1) != 0;
            a += isAbove ? q[i] : -q[i];
            b += isAbove ? q[call.Width + i] : -q[call.Width + i];
            c += isAbove ? q[(2 * call.Width) + i] : -q[(2 * call.Width) + i];
            d += isAbove ? q[(3 * call.Width) + i] : -q[(3 * call.Width) + i];
        }

        float scale = Half(sketch, call.Scales, t);
        a = sums[0] + (scale * a);
        b = sums[Group.DimX] + (scale * b);
        c = sums[2 * Group.DimX] + (scale * c);
        d = sums[3 * Group.DimX] + (scale * d);
        best = a > best ? a : best;
        best = b > best ? b : best;
        best = c > best ? c : best;
        return d > best ? d : best;
    }

    // The keys' mean in the rotated basis, as it is stored.
    private static void Mean(ArrayView<float> keys, long from, ArrayView<float> mean, ArrayView<float> signs, SketchDims call)
    {
        for (int i = Group.IdxX; i < call.Width; i += Group.DimX)
        {
            float sum = 0f;
            for (int t = 0; t < call.PageTokens; t++)
            {
                sum += keys[from + ((long)t * call.Width) + i];
            }

            mean[i] = sum / call.PageTokens;
        }

        Group.Barrier();
        SharedVector.Rotate(mean, call.Width, signs, 0, call.Norm);
        for (int i = Group.IdxX; i < call.Width; i += Group.DimX)
        {
            mean[i] = PortableMath.Single(PortableMath.SaturatedHalf(mean[i]));
        }

        Group.Barrier();
    }

    private static float Half(ArrayView<float> sketch, int plane, int i) =>
        PortableMath.Single((Interop.FloatAsInt(sketch[plane + (i >> 1)]) >> (16 * (i & 1))) & 0xFFFF);

    private static int Halves(ArrayView<float> numbers, int at, int count)
    {
        uint low = PortableMath.SaturatedHalf(numbers[at]);
        uint high = at + 1 < count ? PortableMath.SaturatedHalf(numbers[at + 1]) : 0;
        return (int)(low | (high << 16));
    }

    private static int SignsOf(ArrayView<float> x, int first, int width)
    {
        uint word = 0;
        for (int i = 0; i < WordBits && first + i < width; i++)
        {
            word |= x[first + i] < 0f ? 0u : 1u << i;
        }

        return (int)word;
    }
}
