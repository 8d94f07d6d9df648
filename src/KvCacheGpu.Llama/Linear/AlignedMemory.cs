using System.Runtime.InteropServices;

namespace KvCacheGpu.Llama;

/// <summary>Native memory that starts on a cache line. Weights may be larger than a managed array can be, and must not move.</summary>
internal sealed unsafe class AlignedMemory : SafeHandle
{
    private const int Alignment = 64;

    /// <summary>Allocates memory, filled with zeros.</summary>
    public AlignedMemory(long bytes)
        : base(0, ownsHandle: true)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(bytes);
        Bytes = bytes;
        SetHandle((nint)NativeMemory.AlignedAlloc((nuint)bytes, Alignment));
        NativeMemory.Clear((void*)handle, (nuint)bytes);
    }

    /// <summary>Number of bytes.</summary>
    public long Bytes { get; }

    /// <summary>Its first byte.</summary>
    public byte* Pointer => (byte*)handle;

    /// <summary>Its first element, as binary32.</summary>
    public float* Floats => (float*)handle;

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        NativeMemory.AlignedFree((void*)handle);
        return true;
    }
}
