namespace KvCacheGpu.Import;

/// <summary>An order of axes: the numbers of a tensor's axes for batch, tokens, heads and width; -1 for an axis that it does not have.</summary>
internal readonly record struct AxisOrder(int Batch, int Tokens, int Heads, int Width)
{
    // The orders that old caches used come first: if several fit the sizes, the first one is meant.
    private static readonly AxisOrder[] _matrices = [new(-1, -1, 0, 1), new(-1, -1, 1, 0)];
    private static readonly AxisOrder[] _cubes = [new(-1, 1, 0, 2), new(-1, 0, 1, 2), new(-1, 2, 0, 1), new(-1, 0, 2, 1)];
    private static readonly AxisOrder[] _batches = [new(0, 2, 1, 3), new(0, 1, 2, 3), new(0, 3, 1, 2), new(0, 1, 3, 2)];

    /// <summary>The orders of a rank, likeliest first.</summary>
    public static ReadOnlySpan<AxisOrder> Of(int rank) => rank switch
    {
        2 => _matrices,
        3 => _cubes,
        4 => _batches,
        _ => default,
    };

    /// <summary>True if a tensor of this shape can be in this order.</summary>
    public bool Fits(IReadOnlyList<long> shape, int heads, int width) => shape[Heads] == heads && shape[Width] == width;

    /// <summary>True if two orders of axes fit this shape: if the number of heads equals the number of tokens, or the width.</summary>
    public static bool IsAmbiguous(IReadOnlyList<long> shape, int heads, int width)
    {
        int fitting = 0;
        foreach (AxisOrder order in Of(shape.Count))
        {
            fitting += order.Fits(shape, heads, width) ? 1 : 0;
        }

        return fitting > 1;
    }

    /// <summary>The tensor as [batch][tokens][heads][width].</summary>
    public ImportTensor Apply(ImportTensor tensor) => tensor.Permute(Batch, Tokens, Heads, Width);

    /// <summary>The one order that fits most of these shapes, since one program wrote the file.</summary>
    public static AxisOrder Find(int rank, IEnumerable<IReadOnlyList<long>> shapes, int heads, int width)
    {
        IReadOnlyList<long>[] all = [.. shapes];
        AxisOrder best = Of(rank)[0];
        int most = -1;
        foreach (AxisOrder order in Of(rank))
        {
            int fitting = all.Count(shape => order.Fits(shape, heads, width));
            (best, most) = fitting > most ? (order, fitting) : (best, most);
        }

        return best;
    }
}
