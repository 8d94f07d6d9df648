using System.Numerics;

namespace KvCacheGpu.Kernels;

/// <summary>A query row's softmax over some of its pages.</summary>
/// <param name="Maximum">Largest logit, raw.</param>
/// <param name="Sum">Sum of the powers of (logit - maximum).</param>
/// <param name="Exponent">The row's of <see cref="SoftmaxRows.Exponent"/>.</param>
internal readonly record struct RowState(float Maximum, float Sum, int Exponent);

/// <summary>
/// The partial results of one (sequence, KV head) whose pages are split, f32[segments][rows][3 + stride]: softmax, and mean of the values.
/// </summary>
internal readonly unsafe struct SplitRows(float* memory, int* arrivals, int rows, int stride)
{
    public static int FloatsPerRow(int stride) => stride + 3;

    /// <summary>Counts a part as done and returns how many are.</summary>
    public int Arrive() => Interlocked.Increment(ref *arrivals);

    public void Put(int segment, int row, RowState state, float* output, int width)
    {
        float* to = Row(segment, row);
        (to[0], to[1], to[2]) = (state.Maximum, state.Sum, state.Exponent);
        new Span<float>(output, width).CopyTo(new Span<float>(to + 3, width));
    }

    /// <summary>Merges a row's segments in their order, into the first's place.</summary>
    public RowState Merge(int segments, int row, int width, float logitFactor, out float* output)
    {
        float maximum = float.NegativeInfinity;
        for (int s = 0; s < segments; s++)
        {
            maximum = MathF.Max(maximum, Row(s, row)[0]);
        }

        var exponent = (int)Row(0, row)[2];
        double factor = Math.ScaleB(logitFactor, exponent);
        float sum = 0;
        for (int s = 0; s < segments; s++)
        {
            float* part = Row(s, row);
            part[1] *= part[1] > 0f ? (float)Math.Pow(2, (part[0] - maximum) * factor) : 0f;
            sum += part[1];
        }

        output = Row(0, row) + 3;
        for (int s = 0; s < segments; s++)
        {
            float* part = Row(s, row);
            Add(output, s > 0, part + 3, part[1] / sum, width);
        }

        return new RowState(maximum, sum, exponent);
    }

    // From times share, added to what is there or in its place; both may be one.
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

    private float* Row(int segment, int row) => memory + ((((long)segment * rows) + row) * FloatsPerRow(stride));
}
