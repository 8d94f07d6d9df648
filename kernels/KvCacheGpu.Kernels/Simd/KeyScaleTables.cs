namespace KvCacheGpu.Kernels;

/// <summary>
/// The key scales of a tier in host memory, joined with the signs of the rotation: f32[tables][layers][KV heads][stride], sign * 2^-exponent, 1 in the padding. Queries are multiplied by
/// them before their butterflies, keys by their reciprocals, which are exact.
/// </summary>
internal sealed unsafe class KeyScaleTables : IDisposable
{
    private readonly VectorPlan _plan;
    private readonly NativeBlock _memory;
    private readonly bool[] _isScaled;

    public KeyScaleTables(KernelShape shape, VectorPlan plan, AllocationObserver? observer)
    {
        _plan = plan;
        _isScaled = new bool[KernelTier.KeyTables * shape.Geometry.Layers * shape.Geometry.KvHeads];
        _memory = new NativeBlock((long)_isScaled.Length * plan.Stride * sizeof(float), AllocationKind.Bookkeeping, observer);
        for (int row = 0; row < _isScaled.Length; row++)
        {
            new Span<float>(plan.Signs, plan.Stride).CopyTo(new Span<float>(Of(row), plan.Stride));
        }
    }

    /// <summary>The factors of a row's queries under a table (<see cref="KernelTier.KeyRow"/>).</summary>
    public float* Of(int keyRow) => (float*)_memory.Pointer + ((long)keyRow * _plan.Stride);

    /// <summary>True if any of the row's exponents is not 0; else its basis is that of I8.</summary>
    public bool IsScaled(int keyRow) => _isScaled[keyRow];

    public void Set(int table, KvKeyScales scales)
    {
        int rows = _isScaled.Length / KernelTier.KeyTables;
        for (int row = 0; row < rows; row++)
        {
            ReadOnlySpan<byte> exponents = scales.Of(row);
            float* factors = Of((table * rows) + row);
            for (int i = 0; i < exponents.Length; i++)
            {
                factors[i] = MathF.ScaleB(_plan.Signs[i], -exponents[i]);
            }

            _isScaled[(table * rows) + row] = exponents.ContainsAnyExcept((byte)0);
        }
    }

    public void Dispose() => _memory.Dispose();
}
