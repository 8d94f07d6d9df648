namespace KvCacheGpu.Import;

/// <summary>Checks a view before it is made, in 128 bits, so that no product can overflow.</summary>
internal static class TensorBounds
{
    private const int HighestRank = 8;

    /// <summary>Reads sizes or strides from a tuple.</summary>
    public static long[] Dimensions(string what, TupleValue tuple, long offset)
    {
        if (tuple.Items.Length > HighestRank)
        {
            throw ImportException.Unsupported(what, offset, $"{HighestRank} dimensions at most", $"{tuple.Items.Length}");
        }

        return [.. tuple.Items.Select(item => Whole(what, item, offset))];
    }

    /// <summary>Reads a count or an index.</summary>
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

            // A count beyond 64 bits is beyond every budget, so that it may saturate.
            count = Int128.Min(count * sizes[i], long.MaxValue);
        }

        // A later size may be 0, and then the saturated count is 0 too.
        if (start > elements || (count > 0 && last >= elements))
        {
            throw ImportException.Corrupt("tensor", offset, $"a view within {elements} elements", $"one that starts at {start} and ends at {last}");
        }

        budget.CountTensor(count * type.Bytes(), offset);
    }
}
