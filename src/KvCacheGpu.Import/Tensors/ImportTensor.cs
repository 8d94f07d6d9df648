using System.Buffers;
using System.Security.Cryptography;

namespace KvCacheGpu.Import;

/// <summary>A tensor or array in an old file: a view of bytes that stay in the file until they are asked for. Usable while its <see cref="CacheFile"/> is open.</summary>
/// <remarks>Thread safety: it is used by one thread at a time, with its file and the other tensors in it.</remarks>
public sealed class ImportTensor
{
    private const int ChunkBytes = 64 << 10;

    private readonly Storage _storage;
    private readonly long _offset;
    private readonly long[] _strides;
    private readonly long[] _shape;

    internal ImportTensor(Storage storage, long offset, long[] shape, long[] strides)
    {
        (_storage, _offset, _shape, _strides) = (storage, offset, shape, strides);
        Count = shape.Aggregate(1L, (product, size) => product * size);
    }

    /// <summary>The type of the elements.</summary>
    public ElementType Type => _storage.Type;

    /// <summary>Sizes, outermost first; empty for a scalar.</summary>
    public IReadOnlyList<long> Shape => _shape;

    /// <summary>Number of elements.</summary>
    public long Count { get; }

    /// <summary>Reads elements in C order, little-endian, whatever their order and byte order in the file.</summary>
    /// <param name="first">Index of the first element in C order.</param>
    /// <param name="target">Is filled; its length is a whole number of elements.</param>
    /// <exception cref="ArgumentOutOfRangeException">The tensor does not hold so many elements.</exception>
    /// <exception cref="ImportException">The file has become shorter (E004).</exception>
    public void Read(long first, Span<byte> target)
    {
        int size = Type.Bytes();
        ArgumentOutOfRangeException.ThrowIfNegative(first);
        ArgumentOutOfRangeException.ThrowIfNotEqual(target.Length % size, 0, nameof(target));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(target.Length / size, Count - first, nameof(target));
        Span<byte> rest = target;
        while (rest.Length > 0)
        {
            (long at, long run) = RunAt(first);
            int bytes = (int)Math.Min(rest.Length, run * size);
            _storage.Bytes.Read(at * size, rest[..bytes]);
            rest = rest[bytes..];
            first += bytes / size;
        }

        if (_storage.IsBigEndian && size > 1)
        {
            for (int i = 0; i < target.Length; i += size)
            {
                target.Slice(i, size).Reverse();
            }
        }
    }

    /// <summary>Reads floating-point elements in C order, widened or rounded to binary32.</summary>
    /// <param name="first">Index of the first element in C order.</param>
    /// <param name="target">Is filled.</param>
    /// <exception cref="InvalidOperationException">The elements are not floating-point numbers.</exception>
    public void Read(long first, Span<float> target)
    {
        if (!Type.IsFloat())
        {
            throw new InvalidOperationException($"Elements of {Type.Name()} are no floats.");
        }

        byte[] chunk = ArrayPool<byte>.Shared.Rent(ChunkBytes);
        int size = Type.Bytes();
        for (int done = 0; done < target.Length;)
        {
            int count = Math.Min(ChunkBytes / size, target.Length - done);
            Read(first + done, chunk.AsSpan(0, count * size));
            Type.ToFloats(chunk, target.Slice(done, count));
            done += count;
        }

        ArrayPool<byte>.Shared.Return(chunk);
    }

    /// <summary>SHA-256 of the elements in C order, little-endian.</summary>
    public byte[] Sha256()
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        byte[] chunk = ArrayPool<byte>.Shared.Rent(ChunkBytes);
        int size = Type.Bytes();
        for (long first = 0; first < Count;)
        {
            int count = (int)Math.Min(ChunkBytes / size, Count - first);
            Read(first, chunk.AsSpan(0, count * size));
            hash.AppendData(chunk, 0, count * size);
            first += count;
        }

        ArrayPool<byte>.Shared.Return(chunk);
        return hash.GetHashAndReset();
    }

    /// <summary>Number of elements of the storage from the first to the last that the tensor views; fewer than <see cref="Count"/> if some are viewed twice.</summary>
    internal long Span
    {
        get
        {
            long last = 0;
            for (int axis = 0; axis < _shape.Length; axis++)
            {
                last += Math.Max(_shape[axis] - 1, 0) * _strides[axis];
            }

            return Count == 0 ? 0 : last + 1;
        }
    }

    /// <summary>The same elements in the order of the storage, for work that does not depend on their order.</summary>
    internal ImportTensor InStorageOrder() => Permute([.. Enumerable.Range(0, _shape.Length).OrderByDescending(axis => _strides[axis])]);

    /// <summary>The same elements with their axes in another order; an axis of -1 is a new one of size 1.</summary>
    internal ImportTensor Permute(params ReadOnlySpan<int> axes)
    {
        long[] shape = new long[axes.Length];
        long[] strides = new long[axes.Length];
        for (int i = 0; i < axes.Length; i++)
        {
            (shape[i], strides[i]) = axes[i] < 0 ? (1, 0) : (_shape[axes[i]], _strides[axes[i]]);
        }

        return new ImportTensor(_storage, _offset, shape, strides);
    }

    /// <summary>One slice along the outermost axis.</summary>
    internal ImportTensor At(long index) => new(_storage, _offset + (index * _strides[0]), _shape[1..], _strides[1..]);

    // The place of an element in the storage, and the number of elements from it on that follow each other there.
    private (long At, long Run) RunAt(long index)
    {
        long at = _offset;
        long run = 1;
        long block = 1;
        bool isRun = true;
        for (int axis = _shape.Length - 1; axis >= 0; axis--)
        {
            long coordinate = index % _shape[axis];
            index /= _shape[axis];
            at += coordinate * _strides[axis];
            if (isRun && (_shape[axis] == 1 || _strides[axis] == block))
            {
                // An axis joins the run if the inner axes are contiguous and fill its stride.
                run += (_shape[axis] - 1 - coordinate) * block;
                block *= _shape[axis];
            }
            else
            {
                isRun = false;
            }
        }

        return (at, run);
    }
}
