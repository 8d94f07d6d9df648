namespace KvCacheGpu.Llama;

/// <summary>Computes one element at a time, on any processor.</summary>
internal sealed unsafe class ScalarPanels : PanelKernels
{
    /// <inheritdoc/>
    public override void MultiplyMany(float* panel, int columns, float* x, nint xStride, int tokens, float* y, nint yStride, bool accumulate)
    {
        for (int t = 0; t < tokens; t++, x += xStride, y += yStride)
        {
            if (!accumulate)
            {
                new Span<float>(y, Rows).Clear();
            }

            for (int k = 0; k < columns; k++)
            {
                for (int r = 0; r < Rows; r++)
                {
                    y[r] = MathF.FusedMultiplyAdd(panel[(k * Rows) + r], x[k], y[r]);
                }
            }
        }
    }

    /// <inheritdoc/>
    protected override void One<T>(byte* panel, int columns, float* x, float* y)
    {
        new Span<float>(y, Rows).Clear();
        for (int k = 0; k < columns; k++)
        {
            for (int r = 0; r < Rows; r++, panel += T.Bytes)
            {
                y[r] = MathF.FusedMultiplyAdd(T.Load(panel), x[k], y[r]);
            }
        }
    }

    /// <inheritdoc/>
    protected override void Widen<T>(byte* panel, int columns, float* target)
    {
        for (nint i = 0; i < (nint)columns * Rows; i++)
        {
            target[i] = T.Load(panel + (i * T.Bytes));
        }
    }
}
