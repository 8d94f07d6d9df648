using ILGPU;
using ILGPU.Runtime;

namespace KvCacheGpu.Kernels;

/// <summary>
/// The rotation's diagonal for one width, on the device; for keys also that of each row under each table, divided by the row's key scales: f32[1 + tables * rows][width].
/// Queries are multiplied by it, keys by its reciprocals, which are exact.
/// </summary>
internal sealed class DeviceSigns : IDisposable
{
    private readonly DeviceLink _link;
    private readonly MemoryBuffer1D<float, Stride1D.Dense> _buffer;
    private readonly float[] _signs;
    private readonly bool[] _isScaled;

    /// <param name="link">The device.</param>
    /// <param name="width">Elements of a vector.</param>
    /// <param name="seed">Seed of the signs.</param>
    /// <param name="keyRows">Rows under all tables; 0 where there are no key scales.</param>
    public DeviceSigns(DeviceLink link, int width, ulong seed, int keyRows = 0)
    {
        _link = link;
        _signs = Rotation.Signs(width, seed);
        _isScaled = new bool[keyRows];
        Norm = Rotation.Norm(width);
        _buffer = link.Allocate<float>(AllocationKind.Scratch, (keyRows + 1L) * width);
        using PageLockedArray1D<float> pinned = link.Pin<float>(_buffer.Length);
        for (int vector = 0; vector <= keyRows; vector++)
        {
            _signs.CopyTo(pinned.Span[(vector * width)..]);
        }

        link.Upload(pinned, 0, View, _buffer.Length);
        link.Synchronize();
    }

    /// <summary>signs[width], then those of each row: <see cref="VectorOf"/>.</summary>
    public ArrayView<float> View => _buffer.View.AsContiguous();

    /// <summary><see cref="Rotation.Norm"/> of the width.</summary>
    public float Norm { get; }

    /// <summary>The vector of a row under a table (<see cref="KernelTier.KeyRow"/>).</summary>
    public static int VectorOf(int keyRow) => 1 + keyRow;

    /// <summary>The vector of a row under a table; 0, the plain signs, where all its exponents are 0 or there are no key scales.</summary>
    public int ScaledVectorOf(int keyRow) => _isScaled.Length > 0 && _isScaled[keyRow] ? VectorOf(keyRow) : 0;

    /// <summary>Sets a table.</summary>
    /// <param name="table">The table.</param>
    /// <param name="scales">Its scales.</param>
    /// <param name="upload">Enqueues the copy of so many vectors to the view, from an element on.</param>
    public void Set(int table, KvKeyScales scales, Action<int, float[]> upload)
    {
        int rows = _isScaled.Length / KernelTier.KeyTables;
        var vectors = new float[scales.Exponents.Length];
        for (int i = 0; i < vectors.Length; i++)
        {
            vectors[i] = MathF.ScaleB(_signs[i % _signs.Length], -scales.Exponents[i]);
        }

        for (int row = 0; row < rows; row++)
        {
            _isScaled[(table * rows) + row] = scales.Of(row).ContainsAnyExcept((byte)0);
        }

        upload(VectorOf(table * rows) * _signs.Length, vectors);
    }

    public void Dispose() => _link.Release(AllocationKind.Scratch, _buffer);
}
