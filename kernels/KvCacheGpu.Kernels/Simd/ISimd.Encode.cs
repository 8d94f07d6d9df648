namespace KvCacheGpu.Kernels;

/// <content>What encoding asks of the vectors.</content>
internal unsafe partial interface ISimd<F, I>
{
    /// <summary>Whether <see cref="Pick32"/> is one instruction.</summary>
    static abstract bool PicksFrom32 { get; }

    /// <summary>The elements of low and high, 32 together, that the low five bits of index name; only where <see cref="PicksFrom32"/>.</summary>
    static abstract F Pick32(F low, F high, I index);

    /// <summary>One level of a butterfly inside the vector: a + b at the lower place of each pair that lies half apart, a - b at the upper. Half is a constant at every call.</summary>
    static abstract F Butterfly(F x, int half);

    static abstract F Sqrt(F a);

    /// <summary>Count, plus one where the boundary is less than x.</summary>
    static abstract I CountAbove(I count, F boundary, F x);

    /// <summary>Stores the low byte of each element.</summary>
    static abstract void StoreBytes(byte* p, I value);

    /// <summary>Stores the low 16 bits of each element.</summary>
    static abstract void StoreShorts(ushort* p, I value);

    /// <summary>Transposes a square of as many words as there are lanes, each way; strides in words.</summary>
    static abstract void Transpose(int* from, nint fromStride, int* to, nint toStride);
}
