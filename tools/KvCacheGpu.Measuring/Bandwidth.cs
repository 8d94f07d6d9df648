using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.Measuring;

/// <summary>What this machine's memory gives, in GB/s, to as many threads as the kernels use: the limit that kernels are measured against.</summary>
internal sealed unsafe class Bandwidth : ParallelWork, IDisposable
{
    private const int Parts = 64;

    private readonly WorkerPool _pool;
    private readonly byte* _source;
    private readonly byte* _target;
    private readonly long _bytes;
    private bool _copy;
    private long _sink;

    public Bandwidth(WorkerPool pool, long bytes = 256L << 20)
    {
        (_pool, _bytes) = (pool, bytes);
        _source = (byte*)NativeMemory.AlignedAlloc((nuint)bytes, 64);
        _target = (byte*)NativeMemory.AlignedAlloc((nuint)bytes, 64);
        new Random(1).NextBytes(new Span<byte>(_source, 1 << 20));
        for (long at = 1 << 20; at < bytes; at += 1 << 20)
        {
            Buffer.MemoryCopy(_source, _source + at, 1 << 20, 1 << 20);
        }

        Copy();
    }

    /// <summary>Bytes read once and thrown away.</summary>
    public long Read()
    {
        _copy = false;
        _pool.Run(this, Parts);
        return _bytes;
    }

    /// <summary>Bytes read and written: twice the buffer.</summary>
    public long Copy()
    {
        _copy = true;
        _pool.Run(this, Parts);
        return 2 * _bytes;
    }

    /// <inheritdoc/>
    public override void Do(int item, int worker)
    {
        long size = _bytes / Parts;
        if (_copy)
        {
            Buffer.MemoryCopy(_source + (item * size), _target + (item * size), size, size);
        }
        else
        {
            Interlocked.Add(ref _sink, Sum(_source + (item * size), size));
        }
    }

    public void Dispose()
    {
        NativeMemory.AlignedFree(_source);
        NativeMemory.AlignedFree(_target);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static long Sum(byte* from, long bytes)
    {
        Vector512<long> a = default, b = default, c = default, d = default;
        for (byte* end = from + bytes; from < end; from += 256)
        {
            a ^= Vector512.Load((long*)from);
            b ^= Vector512.Load((long*)(from + 64));
            c ^= Vector512.Load((long*)(from + 128));
            d ^= Vector512.Load((long*)(from + 192));
        }

        return Vector512.Sum(a ^ b ^ c ^ d);
    }
}
