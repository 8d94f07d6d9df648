using System.Runtime.Intrinsics;

namespace KvCacheGpu.Llama;

/// <summary>Computes with 256-bit vectors: half a panel is two of them, and the sums of four tokens fill eight of sixteen registers.</summary>
internal sealed unsafe class Vector256Panels : PanelKernels
{
    private const int Half = Rows / 2;

    /// <inheritdoc/>
    public override void MultiplyMany(float* panel, int columns, float* x, nint xStride, int tokens, float* y, nint yStride, bool accumulate)
    {
        for (; tokens >= 4; tokens -= 4, x += 4 * xStride, y += 4 * yStride)
        {
            Four(panel, columns, x, xStride, y, yStride, accumulate);
            Four(panel + Half, columns, x, xStride, y + Half, yStride, accumulate);
        }

        for (; tokens > 0; tokens--, x += xStride, y += yStride)
        {
            Single(panel, columns, x, y, accumulate);
            Single(panel + Half, columns, x, y + Half, accumulate);
        }
    }

    /// <inheritdoc/>
    protected override void One<T>(byte* panel, int columns, float* x, float* y)
    {
        Vector256<float> a = default, b = default, c = default, d = default;
        for (int k = 0; k < columns; k++, panel += Rows * T.Bytes)
        {
            Vector256<float> factor = Vector256.Create(x[k]);
            (Vector256<float> low, Vector256<float> high) = T.Load16(panel);
            a = Vector256.FusedMultiplyAdd(low, factor, a);
            b = Vector256.FusedMultiplyAdd(high, factor, b);
            (low, high) = T.Load16(panel + (Half * T.Bytes));
            c = Vector256.FusedMultiplyAdd(low, factor, c);
            d = Vector256.FusedMultiplyAdd(high, factor, d);
        }

        Store(a, b, y);
        Store(c, d, y + Half);
    }

    /// <inheritdoc/>
    protected override void Widen<T>(byte* panel, int columns, float* target)
    {
        for (int k = 0; k < 2 * columns; k++, panel += Half * T.Bytes, target += Half)
        {
            (Vector256<float> low, Vector256<float> high) = T.Load16(panel);
            Store(low, high, target);
        }
    }

    private static void Four(float* panel, int columns, float* x, nint xs, float* y, nint ys, bool accumulate)
    {
        Vector256<float> a0 = default, b0 = default, a1 = default, b1 = default, a2 = default, b2 = default, a3 = default, b3 = default;
        if (accumulate)
        {
            (a0, b0) = Load(y);
            (a1, b1) = Load(y + ys);
            (a2, b2) = Load(y + (2 * ys));
            (a3, b3) = Load(y + (3 * ys));
        }

        float* x2 = x + (2 * xs);
        for (float* end = x + columns; x < end; x++, x2++, panel += Rows)
        {
            Vector256<float> a = Vector256.Load(panel);
            Vector256<float> b = Vector256.Load(panel + 8);
            Add(a, b, x[0], ref a0, ref b0);
            Add(a, b, x[xs], ref a1, ref b1);
            Add(a, b, x2[0], ref a2, ref b2);
            Add(a, b, x2[xs], ref a3, ref b3);
        }

        Store(a0, b0, y);
        Store(a1, b1, y + ys);
        Store(a2, b2, y + (2 * ys));
        Store(a3, b3, y + (3 * ys));
    }

    private static void Single(float* panel, int columns, float* x, float* y, bool accumulate)
    {
        (Vector256<float> a, Vector256<float> b) = accumulate ? Load(y) : default;
        for (int k = 0; k < columns; k++, panel += Rows)
        {
            Add(Vector256.Load(panel), Vector256.Load(panel + 8), x[k], ref a, ref b);
        }

        Store(a, b, y);
    }

    private static void Add(Vector256<float> a, Vector256<float> b, float x, ref Vector256<float> sumA, ref Vector256<float> sumB)
    {
        Vector256<float> factor = Vector256.Create(x);
        sumA = Vector256.FusedMultiplyAdd(a, factor, sumA);
        sumB = Vector256.FusedMultiplyAdd(b, factor, sumB);
    }

    private static (Vector256<float> A, Vector256<float> B) Load(float* y) => (Vector256.Load(y), Vector256.Load(y + 8));

    private static void Store(Vector256<float> a, Vector256<float> b, float* y)
    {
        a.Store(y);
        b.Store(y + 8);
    }
}
