using System.Buffers;
using System.Buffers.Binary;

namespace KvCacheGpu.Import;

/// <summary>Says if the elements of a tensor can be keys or values, and how much float32 loses of them.</summary>
/// <param name="Fault">A kind of element that no key or value may have; null if there is none.</param>
/// <param name="Loss">The loss by rounding to float32.</param>
internal readonly record struct TensorContent(string? Fault, RoundingLoss Loss)
{
    private const int ChunkElements = 8 << 10;

    /// <summary>Reads a whole tensor of floating-point numbers, or up to its first fault.</summary>
    public static TensorContent Of(ImportTensor tensor)
    {
        // Views that repeat elements can ask for any amount of work, and no cache is stored as such a view.
        if (tensor.Count > tensor.Span)
        {
            return new TensorContent("elements that stand for several", default);
        }

        return tensor.Type == ElementType.Float64 ? OfDoubles(tensor.InStorageOrder()) : new TensorContent(FaultOf(tensor.InStorageOrder()), default);
    }

    private static string? FaultOf(ImportTensor tensor)
    {
        float[] chunk = ArrayPool<float>.Shared.Rent(ChunkElements);
        string? fault = null;
        for (long first = 0; first < tensor.Count && fault is null; first += ChunkElements)
        {
            Span<float> part = chunk.AsSpan(0, (int)Math.Min(ChunkElements, tensor.Count - first));
            tensor.Read(first, part);
            foreach (float element in part)
            {
                if (!float.IsFinite(element))
                {
                    fault = Name(element);
                    break;
                }
            }
        }

        ArrayPool<float>.Shared.Return(chunk);
        return fault;
    }

    private static TensorContent OfDoubles(ImportTensor tensor)
    {
        byte[] chunk = ArrayPool<byte>.Shared.Rent(ChunkElements * sizeof(double));
        TensorContent content = default;
        for (long first = 0; first < tensor.Count && content.Fault is null; first += ChunkElements)
        {
            Span<byte> part = chunk.AsSpan(0, (int)Math.Min(ChunkElements, tensor.Count - first) * sizeof(double));
            tensor.Read(first, part);
            content = OfDoubles(part, content.Loss);
        }

        ArrayPool<byte>.Shared.Return(chunk);
        return content;
    }

    private static TensorContent OfDoubles(ReadOnlySpan<byte> elements, RoundingLoss loss)
    {
        for (; elements.Length > 0; elements = elements[sizeof(double)..])
        {
            double element = BinaryPrimitives.ReadDoubleLittleEndian(elements);
            float single = (float)element;
            if (!float.IsFinite(single))
            {
                return new TensorContent(double.IsFinite(element) ? "a number beyond float32" : Name(element), loss);
            }

            if (single != element)
            {
                loss = loss.And(new RoundingLoss(1, Math.Abs((element - single) / element)));
            }
        }

        return new TensorContent(null, loss);
    }

    private static string Name(double element) => double.IsNaN(element) ? "a NaN" : "an infinity";
}
