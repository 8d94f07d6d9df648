namespace KvCacheGpu.Import;

/// <summary>Checks a view before it exists, in 128 bits, so that no product can wrap.</summary>
internal static class TensorBounds
{
    private const int HighestRank = 8;

    /// <summary>Sizes or strides out of a tuple.</summary>
    public static long[] Dimensions(string what, TupleValue tuple, long offset)
    {
        if (tuple.Items.Length > HighestRank)
        {
            throw ImportException.Unsupported(what, offset, $"{HighestRank} dimensions at most", $"{tuple.Items.Length}");
        }

        return [.. tuple.Items.Select(item => Whole(what, item, offset))];
    }

    /// <summary>A count or an index.</summary>
    public static long Whole(string what, PickleValue value, long offset) => value is IntegerValue { Value: var number } && number >= 0 && number <= long.MaxValue
        ? (long)number
        : throw ImportException.Corrupt(what, offset, $"0 to {long.MaxValue}", PickleKeys.Describe(value));

    /// <summary>Checks that a view lies within its storage, and counts it.</summary>
    public static void Check(ElementType type, long start, long[] sizes, long[] strides, long elements, ReadBudget budget, long offset)
    {
        if (sizes.Length != strides.Length)
        {
            throw ImportException.Corrupt("tensor", offset, "as many strides as sizes", $"{strides.Length} and {sizes.Length}");
        }

        Int128 count = 1;
        Int128 last = start;
        for (int i = 0; i < sizes.Length; i++)
        {
            if (strides[i] == 0 && sizes[i] > 1)
            {
                throw ImportException.Unsupported("tensor", offset, "no element twice", "a stride of 0");
            }

            last += ((Int128)Math.Max(sizes[i] - 1, 0)) * strides[i];

            // Saturated: beyond 64 bits it is beyond every budget.
            count = Int128.Min(count * sizes[i], long.MaxValue);
        }

        // A later size may be 0; saturation keeps that.
        if (start > elements || (count > 0 && last >= elements))
        {
            throw ImportException.Corrupt("tensor", offset, $"a view within {elements} elements", $"one that starts at {start} and ends at {last}");
        }

        budget.CountTensor(count * type.Bytes(), offset);
    }
}
