using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>
/// <see cref="MergeKernel"/> for CUDA. A thread weighs one of the partial results, then loads four neighbouring elements of each of them at once: threads that have no elements
/// left take every second, third, ... segment, and their sums are added at the end. Outputs are written sixteen bytes at a time.
/// </summary>
internal static class WideMerge
{
    /// <summary>Threads of a group.</summary>
    public const int Threads = 128;

    /// <summary>Widest vector: a thread has four elements of it.</summary>
    public const int MostWidth = 4 * Threads;

    private const int Warps = Threads / 32;

    /// <summary>Shared floats: the weights, the largest and the sum of each warp, then the sums of all slices, of values in the rotated basis and of others.</summary>
    public static int SharedFloats(int width, int partials) => partials + (2 * Warps) + (2 * Slices(width) * width);

    /// <summary>
    /// output[tokens][query heads][wV] and logSumExp[tokens][query heads]. Partial results and outputs begin at multiples of 16 bytes; wV is a multiple of 8, at most <see cref="MostWidth"/>.
    /// </summary>
    public static void Merge(
        ArrayView<int> arena,
        ArrayView<int> batch,
        ArrayView<Four> partials,
        ArrayView<float> partialStats,
        ArrayView<Words4> output,
        ArrayView<float> logSumExp,
        ArrayView<float> signs,
        MergeDims merge,
        KernelDims dims)
    {
        var place = new MergePlace(arena, batch, merge, dims);
        if (place.IsBeyond)
        {
            return;
        }

        int width = dims.ValueWidth;
        int slices = Slices(width);
        int room = merge.Launches * merge.Segments;
        ArrayView<float> shared = SharedMemory.GetDynamic<float>();
        ArrayView<float> weights = shared.SubView(0, room);
        ArrayView<float> ofWarps = shared.SubView(room, 2 * Warps);
        ArrayView<float> turned = shared.SubView(room + (2 * Warps), slices * width);
        ArrayView<float> plain = shared.SubView(room + (2 * Warps) + (slices * width), slices * width);
        float exponent = MergeKernel.Exponent(partialStats, place, merge);
        int count = merge.Launches * place.Used;
        float largest = float.NegativeInfinity;
        for (int i = Group.IdxX; i < count; i += Threads)
        {
            largest = Lane.Max(largest, MergeKernel.Largest(partialStats, place.At(i / place.Used, i % place.Used, merge), exponent));
        }

        for (int mask = 1; mask < 32; mask <<= 1)
        {
            largest = Lane.Max(largest, Warp.ShuffleXor(largest, mask));
        }

        if ((Group.IdxX & 31) == 0)
        {
            ofWarps[Group.IdxX >> 5] = largest;
        }

        Group.Barrier();
        largest = Lane.Max(Lane.Max(ofWarps[0], ofWarps[1]), Lane.Max(ofWarps[2], ofWarps[3]));
        float sum = 0f;
        for (int i = Group.IdxX; i < count; i += Threads)
        {
            float weight = MergeKernel.Weight(partialStats, place.At(i / place.Used, i % place.Used, merge), largest, exponent);
            weights[i] = weight;
            sum += weight;
        }

        for (int mask = 1; mask < 32; mask <<= 1)
        {
            sum += Warp.ShuffleXor(sum, mask);
        }

        if ((Group.IdxX & 31) == 0)
        {
            ofWarps[Warps + (Group.IdxX >> 5)] = sum;
        }

        Group.Barrier();
        sum = ofWarps[Warps] + ofWarps[Warps + 1] + (ofWarps[Warps + 2] + ofWarps[Warps + 3]);
        int lanes = width >> 2;
        int slice = Group.IdxX / lanes;
        int lane = Group.IdxX - (slice * lanes);
        if (slice < slices)
        {
            Four rotated = default;
            Four other = default;
            for (int launch = 0; launch < merge.Launches; launch++)
            {
                Four own = default;
                for (int s = slice; s < place.Used; s += slices)
                {
                    float weight = weights[(launch * place.Used) + s] / sum;

                    // Of a segment without weight the elements may be no numbers.
                    if (weight > 0f)
                    {
                        Four x = partials[(place.At(launch, s, merge) * lanes) + lane];
                        own = Four.Of(Lane.Fma(weight, x.X, own.X), Lane.Fma(weight, x.Y, own.Y), Lane.Fma(weight, x.Z, own.Z), Lane.Fma(weight, x.W, own.W));
                    }
                }

                bool isRotated = ((merge.Rotated >> launch) & 1) != 0;
                rotated = Four.Select(isRotated, Four.Sum(rotated, own), rotated);
                other = Four.Select(isRotated, other, Four.Sum(other, own));
            }

            StagedVectors.Store(turned, (slice * width) + (4 * lane), 1, rotated);
            StagedVectors.Store(plain, (slice * width) + (4 * lane), 1, other);
        }

        Group.Barrier();
        Join(turned, width, slices);
        Join(plain, width, slices);
        Group.Barrier();
        if (merge.Rotated != 0)
        {
            SharedVector.Undo(turned, width, signs, 0, merge.Norm);
        }

        Store(output, place.Vector, turned, plain, merge.Type, width);
        if (Group.IdxX == 0)
        {
            place.WriteLogSumExp(arena, batch, logSumExp, PortableMath.LogitOf(largest, exponent) + PortableMath.Log(sum), merge, dims);
        }
    }

    private static int Slices(int width) => Threads / (width >> 2);

    // The sums of all slices, in place of the first one's.
    private static void Join(ArrayView<float> sums, int width, int slices)
    {
        for (int d = Group.IdxX; d < width; d += Threads)
        {
            float sum = sums[d];
            for (int slice = 1; slice < slices; slice++)
            {
                sum += sums[(slice * width) + d];
            }

            sums[d] = sum;
        }
    }

    private static void Store(ArrayView<Words4> output, long vector, ArrayView<float> turned, ArrayView<float> plain, int type, int width)
    {
        bool isWide = type == (int)TensorType.F32;
        int chunks = isWide ? width >> 2 : width >> 3;
        for (int chunk = Group.IdxX; chunk < chunks; chunk += Threads)
        {
            output[(vector * chunks) + chunk] = isWide ? Singles(turned, plain, 4 * chunk) : LaneWords.Words(
                Pair(turned, plain, 8 * chunk, type), Pair(turned, plain, (8 * chunk) + 2, type), Pair(turned, plain, (8 * chunk) + 4, type), Pair(turned, plain, (8 * chunk) + 6, type));
        }
    }

    private static Words4 Singles(ArrayView<float> turned, ArrayView<float> plain, int d) => LaneWords.Words(
        (int)Interop.FloatAsInt(plain[d] + turned[d]),
        (int)Interop.FloatAsInt(plain[d + 1] + turned[d + 1]),
        (int)Interop.FloatAsInt(plain[d + 2] + turned[d + 2]),
        (int)Interop.FloatAsInt(plain[d + 3] + turned[d + 3]));

    private static int Pair(ArrayView<float> turned, ArrayView<float> plain, int d, int type) =>
        (int)(TypedElements.Narrow(plain[d] + turned[d], type) | (TypedElements.Narrow(plain[d + 1] + turned[d + 1], type) << 16));
}
