using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>Where elements lie in the chunks of a vector, and scales in their planes.</summary>
internal static class Chunk
{
    /// <summary>Element <paramref name="j"/> of a chunk, counted in the vector.</summary>
    public static int Element<TCodec>(int chunk, int j)
        where TCodec : struct, IPortableCodec =>
        default(TCodec).IsSplit
            ? ((chunk >> 2) * 32) + ((j >> 2) * 16) + ((chunk & 3) * 4) + (j & 3)
            : (chunk * default(TCodec).ElementsPerChunk) + j;

    /// <summary>The chunk of an element.</summary>
    public static int Of<TCodec>(int element)
        where TCodec : struct, IPortableCodec =>
        default(TCodec).IsSplit ? ((element >> 5) * 4) + ((element & 15) >> 2) : element / default(TCodec).ElementsPerChunk;

    /// <summary>Its number there.</summary>
    public static int Index<TCodec>(int element)
        where TCodec : struct, IPortableCodec =>
        default(TCodec).IsSplit ? (((element >> 4) & 1) * 4) + (element & 3) : element % default(TCodec).ElementsPerChunk;

    /// <summary>Number <paramref name="i"/> of a plane of binary16 numbers.</summary>
    public static float Half(ArrayView<int> page, int plane, int i) => PortableMath.Single(((uint)page[plane + (i >> 1)] >> (16 * (i & 1))) & 0xFFFF);
}
