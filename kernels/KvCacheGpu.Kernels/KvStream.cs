using ILGPU.Runtime;

namespace KvCacheGpu;

/// <summary>
/// A stream of the device that a host enqueues its own work on: one of ILGPU's, or a CUDA stream by its handle. The default value names none: a step
/// then runs on the default stream of the cache's accelerator, and a tensor has no work pending.
/// </summary>
/// <remarks>
/// It does not own the stream: the host keeps the stream alive until the call that ends the step, or reads the tensor, has returned. Thread safety: it never changes.
/// </remarks>
public readonly struct KvStream : IEquatable<KvStream>
{
    private readonly nint _handle;
    private readonly bool _isHandle;

    private KvStream(AcceleratorStream? stream, nint handle, bool isHandle) => (Stream, _handle, _isHandle) = (stream, handle, isHandle);

    /// <summary>ILGPU's stream; null if the value names none, or names one by its CUDA handle.</summary>
    public AcceleratorStream? Stream { get; }

    /// <summary>The CUDA handle (CUstream) that <see cref="FromCuda"/> was given; null for all others.</summary>
    public nint? CudaHandle => _isHandle ? _handle : null;

    /// <summary>True if the value names no stream.</summary>
    public bool IsDefault => Stream is null && !_isHandle;

    /// <summary>Returns true if both name the same stream in the same way.</summary>
    public static bool operator ==(KvStream left, KvStream right) => left.Equals(right);

    /// <summary>Returns true if they name different streams.</summary>
    public static bool operator !=(KvStream left, KvStream right) => !left.Equals(right);

    /// <summary>A CUDA stream of the context that the cache works in.</summary>
    /// <param name="handle">
    /// Its CUstream, as the driver, the CUDA runtime (cudaStream_t) or torch give it. 0 is the default stream of the context. The per-thread default stream (2)
    /// may write tensors, but steps on it are refused: it is another stream on each thread.
    /// </param>
    public static KvStream FromCuda(nint handle) => new(null, handle, true);

    /// <summary>A stream of the accelerator that the cache works on.</summary>
    public static implicit operator KvStream(AcceleratorStream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        return new KvStream(stream, 0, false);
    }

    /// <inheritdoc/>
    public bool Equals(KvStream other) => Stream == other.Stream && _handle == other._handle && _isHandle == other._isHandle;

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is KvStream other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Stream, _handle, _isHandle);
}
