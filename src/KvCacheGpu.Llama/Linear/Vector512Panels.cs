using System.Runtime.Intrinsics;

namespace KvCacheGpu.Llama;

/// <summary>Computes with 512-bit vectors: a panel is two of them, and the sums of eight tokens fill sixteen registers.</summary>
internal sealed unsafe class Vector512Panels : PanelKernels
{
    /// <inheritdoc/>
    public override void MultiplyMany(float* panel, int columns, float* x, nint xStride, int tokens, float* y, nint yStride, bool accumulate)
    {
        for (; tokens >= 8; tokens -= 8, x += 8 * xStride, y += 8 * yStride)
        {
            Eight(panel, columns, x, xStride, y, yStride, accumulate);
        }

        for (; tokens >= 2; tokens -= 2, x += 2 * xStride, y += 2 * yStride)
        {
            Two(panel, columns, x, x + xStride, y, y + yStride, accumulate);
        }

        if (tokens == 1)
        {
            Two(panel, columns, x, x, y, y, accumulate);
        }
    }

    /// <inheritdoc/>
    protected override void One<T>(byte* panel, int columns, float* x, float* y)
    {
        Vector512<float> low = default, high = default;
        for (int k = 0; k < columns; k++, panel += Rows * T.Bytes)
        {
            Vector512<float> factor = Vector512.Create(x[k]);
            (Vector512<float> weightLow, Vector512<float> weightHigh) = T.Load32(panel);
            low = Vector512.FusedMultiplyAdd(weightLow, factor, low);
            high = Vector512.FusedMultiplyAdd(weightHigh, factor, high);
        }

        low.Store(y);
        high.Store(y + 16);
    }

    /// <inheritdoc/>
    protected override void Widen<T>(byte* panel, int columns, float* target)
    {
        for (int k = 0; k < columns; k++, panel += Rows * T.Bytes, target += Rows)
        {
            (Vector512<float> low, Vector512<float> high) = T.Load32(panel);
            low.Store(target);
            high.Store(target + 16);
        }
    }

    private static void Eight(float* panel, int columns, float* x, nint xs, float* y, nint ys, bool accumulate)
    {
        Vector512<float> a0 = default, b0 = default, a1 = default, b1 = default, a2 = default, b2 = default, a3 = default, b3 = default;
        Vector512<float> a4 = default, b4 = default, a5 = default, b5 = default, a6 = default, b6 = default, a7 = default, b7 = default;
        if (accumulate)
        {
            (a0, b0) = Load(y);
            (a1, b1) = Load(y + ys);
            (a2, b2) = Load(y + (2 * ys));
            (a3, b3) = Load(y + (3 * ys));
            (a4, b4) = Load(y + (4 * ys));
            (a5, b5) = Load(y + (5 * ys));
            (a6, b6) = Load(y + (6 * ys));
            (a7, b7) = Load(y + (7 * ys));
        }

        float* x3 = x + (3 * xs);
        float* x6 = x3 + (3 * xs);
        for (float* end = x + columns; x < end; x++, x3++, x6++, panel += Rows)
        {
            Vector512<float> a = Vector512.Load(panel);
            Vector512<float> b = Vector512.Load(panel + 16);
            Add(a, b, x[0], ref a0, ref b0);
            Add(a, b, x[xs], ref a1, ref b1);
            Add(a, b, x[2 * xs], ref a2, ref b2);
            Add(a, b, x3[0], ref a3, ref b3);
            Add(a, b, x3[xs], ref a4, ref b4);
            Add(a, b, x3[2 * xs], ref a5, ref b5);
            Add(a, b, x6[0], ref a6, ref b6);
            Add(a, b, x6[xs], ref a7, ref b7);
        }

        Store(a0, b0, y);
        Store(a1, b1, y + ys);
        Store(a2, b2, y + (2 * ys));
        Store(a3, b3, y + (3 * ys));
        Store(a4, b4, y + (4 * ys));
        Store(a5, b5, y + (5 * ys));
        Store(a6, b6, y + (6 * ys));
        Store(a7, b7, y + (7 * ys));
    }

    private static void Two(float* panel, int columns, float* x0, float* x1, float* y0, float* y1, bool accumulate)
    {
        (Vector512<float> a0, Vector512<float> b0) = accumulate ? Load(y0) : default;
        (Vector512<float> a1, Vector512<float> b1) = accumulate ? Load(y1) : default;
        for (int k = 0; k < columns; k++, panel += Rows)
        {
            Vector512<float> a = Vector512.Load(panel);
            Vector512<float> b = Vector512.Load(panel + 16);
            Add(a, b, x0[k], ref a0, ref b0);
            Add(a, b, x1[k], ref a1, ref b1);
        }

        Store(a0, b0, y0);
        Store(a1, b1, y1);
    }

    private static void Add(Vector512<float> a, Vector512<float> b, float x, ref Vector512<float> sumA, ref Vector512<float> sumB)
    {
        Vector512<float> factor = Vector512.Create(x);
        sumA = Vector512.FusedMultiplyAdd(a, factor, sumA);
        sumB = Vector512.FusedMultiplyAdd(b, factor, sumB);
    }

    private static (Vector512<float> A, Vector512<float> B) Load(float* y) => (Vector512.Load(y), Vector512.Load(y + 16));

    private static void Store(Vector512<float> a, Vector512<float> b, float* y)
    {
        a.Store(y);
        b.Store(y + 16);
    }
}
