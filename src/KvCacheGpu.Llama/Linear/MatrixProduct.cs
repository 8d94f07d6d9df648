using System.Runtime.CompilerServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.Llama;

/// <summary>
/// <c>y[t] = W x[t]</c> on all cores. One token streams the weights from memory once; many tokens share each panel, which is widened
/// a block of columns at a time into a buffer that fits the cache.
/// </summary>
internal sealed unsafe class MatrixProduct(SimdLevel level = SimdLevel.Auto) : ParallelWork
{
    private const int BlockColumns = 256;
    private const int BlockTokens = 64;

    // For fewer tokens the weights are widened again for each of them, which is cheaper than writing them to the buffer.
    private const int FewTokens = 2;

    private readonly PanelKernels _kernels = PanelKernels.For(level);
    private PackedMatrix? _matrix;
    private float* _x;
    private float* _y;
    private nint _xStride;
    private nint _yStride;
    private int _tokens;

    /// <summary>Multiplies; writes <see cref="PackedMatrix.PaddedRows"/> outputs per token.</summary>
    /// <param name="matrix">The weights.</param>
    /// <param name="x">Inputs <c>[tokens][xStride]</c>.</param>
    /// <param name="xStride">Elements from one token's inputs to the next.</param>
    /// <param name="y">Outputs <c>[tokens][yStride]</c>.</param>
    /// <param name="yStride">Elements from one token's outputs to the next.</param>
    /// <param name="tokens">Number of tokens, at least 1.</param>
    public void Multiply(PackedMatrix matrix, float* x, int xStride, float* y, int yStride, int tokens)
    {
        _x = x;
        _y = y;
        (_matrix, _xStride, _yStride, _tokens) = (matrix, xStride, yStride, tokens);
        WorkerPool.Shared.Run(this, matrix.Panels * (tokens < FewTokens ? 1 : (tokens + BlockTokens - 1) / BlockTokens));
    }

    /// <inheritdoc/>
    public override void Do(int item, int worker)
    {
        PackedMatrix matrix = _matrix!;
        int panel = item % matrix.Panels;
        int first = item / matrix.Panels * BlockTokens;
        float* x = _x + (first * _xStride);
        float* y = _y + (first * _yStride) + ((nint)panel * PanelKernels.Rows);
        if (_tokens < FewTokens)
        {
            _kernels.MultiplyOne(matrix.Type, matrix.Panel(panel), matrix.Columns, x, y);
        }
        else
        {
            MultiplyBlock(matrix, panel, x, y, Math.Min(BlockTokens, _tokens - first));
        }
    }

    [SkipLocalsInit]
    private void MultiplyBlock(PackedMatrix matrix, int panel, float* x, float* y, int tokens)
    {
        byte* buffer = stackalloc byte[(BlockColumns * PanelKernels.Rows * sizeof(float)) + 64];
        float* widened = (float*)(((nint)buffer + 63) & ~63);
        int elementBytes = matrix.Type == WeightType.F32 ? 4 : 2;
        for (int column = 0; column < matrix.Columns; column += BlockColumns)
        {
            int columns = Math.Min(BlockColumns, matrix.Columns - column);
            byte* source = matrix.Panel(panel) + ((nint)column * PanelKernels.Rows * elementBytes);
            float* weights = (float*)source;
            if (matrix.Type != WeightType.F32)
            {
                _kernels.Widen(matrix.Type, source, columns, widened);
                weights = widened;
            }

            _kernels.MultiplyMany(weights, columns, x + column, _xStride, tokens, y, _yStride, accumulate: column > 0);
        }
    }
}
