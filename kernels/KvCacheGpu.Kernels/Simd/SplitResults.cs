using System.Numerics;

namespace KvCacheGpu.Kernels;

/// <summary>A query's softmax over some of its pages.</summary>
/// <param name="Maximum">Largest logit, raw.</param>
/// <param name="Sum">Sum of the powers of (logit - maximum).</param>
/// <param name="Exponent">The query's of <see cref="SoftmaxState.Exponent"/>.</param>
internal readonly record struct QueryState(float Maximum, float Sum, int Exponent);

/// <summary>
/// The partial results of one (sequence, KV head) whose pages are split, f32[segments][queries][3 + stride]: softmax, and mean of the values.
/// </summary>
internal readonly unsafe struct SplitResults(float* memory, int* arrivals, int queries, int stride)
{
    public static int FloatsPerQuery(int stride) => stride + 3;

    /// <summary>Counts a part as done and returns how many are.</summary>
    public int Arrive() => Interlocked.Increment(ref *arrivals);

    public void Put(int segment, int query, QueryState state, float* output, int width)
    {
        float* to = Query(segment, query);
        (to[0], to[1], to[2]) = (state.Maximum, state.Sum, state.Exponent);
        new Span<float>(output, width).CopyTo(new Span<float>(to + 3, width));
    }

    /// <summary>Merges a query's segments in their order, into the first's place.</summary>
    public QueryState Merge(int segments, int query, int width, float logitFactor, out float* output)
    {
        float maximum = float.NegativeInfinity;
        for (int s = 0; s < segments; s++)
        {
            maximum = MathF.Max(maximum, Query(s, query)[0]);
        }

        var exponent = (int)Query(0, query)[2];
        double factor = Math.ScaleB(logitFactor, exponent);
        float sum = 0;
        for (int s = 0; s < segments; s++)
        {
            float* part = Query(s, query);
            part[1] *= part[1] > 0f ? (float)Math.Pow(2, (part[0] - maximum) * factor) : 0f;
            sum += part[1];
        }

        output = Query(0, query) + 3;
        for (int s = 0; s < segments; s++)
        {
            float* part = Query(s, query);
            Add(output, s > 0, part + 3, part[1] / sum, width);
        }

        return new QueryState(maximum, sum, exponent);
    }

    // to = from * share, added to the earlier contents if it keeps them. Both may be the same memory.
    private static void Add(float* to, bool keeps, float* from, float share, int width)
    {
        int i = 0;
        for (; i + Vector<float>.Count <= width; i += Vector<float>.Count)
        {
            ((keeps ? Vector.Load(to + i) : Vector<float>.Zero) + (Vector.Load(from + i) * share)).Store(to + i);
        }

        for (; i < width; i++)
        {
            to[i] = (keeps ? to[i] : 0f) + (from[i] * share);
        }
    }

    private float* Query(int segment, int query) => memory + ((((long)segment * queries) + query) * FloatsPerQuery(stride));
}
