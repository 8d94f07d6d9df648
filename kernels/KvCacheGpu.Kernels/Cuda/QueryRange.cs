using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>The queries of a block, and the table entries that a segment covers.</summary>
internal struct QueryRange
{
    public int Slot;
    public int First;
    public int Last;
    public int FirstQuery;
    public int FirstToken;
    public int Tokens;
    public int Length;
    public int Entries;

    public QueryRange(ArrayView<int> arena, ArrayView<int> batch, int block, int head, int segment, int count, AttendDims call, KernelDims dims)
    {
        FirstQuery = batch[block + 1];
        int owner = dims.Sequences + (batch[block] * KernelDims.SequenceWords);
        Slot = batch[owner];
        FirstToken = batch[owner + 1];
        Tokens = batch[owner + 2];
        Length = batch[owner + 3];
        Entries = arena[dims.CountWord(Slot, call.Layer.Layer, head)];
        First = segment * 4;
        Last = First + 4 < Entries ? First + 4 : Entries;
    }

    public readonly bool IsWhole(int entry, int first, int pageTokens, int window) => first + pageTokens <= Length - Tokens && Length - first <= window;

    public readonly QueryPlace Place(int r, int head, LayerDims layer, KernelDims dims)
    {
        int token = (FirstQuery + r) / dims.GroupSize;
        int queryHead = (head * dims.GroupSize) + (FirstQuery + r - (token * dims.GroupSize));
        return new QueryPlace(layer.Queries.At(FirstToken + token, queryHead), layer.Queries.Type, layer.Logits.Scale * 1.44269504f, token < Tokens);
    }
}

/// <summary>A query's running results, in a lane that holds its column.</summary>
internal struct ColumnState
{
    public float Factor;
    public float Most;
    public float Sum;
    public int Position;

    public ColumnState(QueryRange range, int r, int exponent, int more)
    {
        Factor = PortableMath.PowerOf(exponent + more);
        Most = -1e30f;
        Sum = 0f;
        Position = range.Length - range.Tokens + range.FirstQuery + r;
    }

    public readonly bool Sees(int position, int window) => position <= Position && position > Position - window;
}
