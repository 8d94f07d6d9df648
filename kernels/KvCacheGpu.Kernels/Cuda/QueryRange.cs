using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>The queries of a block, and the table entries that they see in a segment. The same in all lanes of a warp.</summary>
internal struct QueryRange
{
    /// <summary>The sequence's slot in the tables.</summary>
    public int Slot;

    /// <summary>KV head.</summary>
    public int Head;

    /// <summary>First and last entry (not included) that any query sees in this segment.</summary>
    public int First;
    public int Last;

    private int _firstQuery;
    private int _firstToken;
    private int _tokens;
    private int _length;
    private int _measured;
    private int _entries;
    private int _segment;

    // Of the block's first query, which sees the least, and of its last one.
    private int _firstPosition;
    private int _lastPosition;
    private int _firstEnd;
    private int _lastBegin;

    /// <summary>Some queries of a block, or all; of a last block there may be none.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static QueryRange Of(ArrayView<int> arena, ArrayView<int> batch, int work, (int First, int Count) part, AttendDims call, KernelDims dims)
    {
        QueryRange r = default;
        int item = work / call.Segments;
        r.Head = item % dims.KvHeads;
        int block = KernelDims.Blocks + ((call.FirstBlock + (item / dims.KvHeads)) * 2);
        int owner = dims.Sequences + (batch[block] * KernelDims.SequenceWords);
        r._firstQuery = batch[block + 1] + part.First;
        r.Slot = batch[owner];
        r._firstToken = batch[owner + 1];
        r._tokens = batch[owner + 2];
        r._length = batch[owner + 3];
        r._measured = batch[owner + 4];
        r._entries = arena[dims.CountWord(r.Slot, call.Layer.Layer, r.Head)];
        r._segment = work - (item * call.Segments);
        int firstToken = r._firstQuery / dims.GroupSize;
        int lastToken = (r._firstQuery + part.Count - 1) / dims.GroupSize;
        lastToken = lastToken < r._tokens ? lastToken : r._tokens - 1;
        r._firstPosition = r._length - r._tokens + firstToken;
        r._lastPosition = r._length - r._tokens + lastToken;
        r.First = r.BeginOf(r._firstPosition, dims);
        r.Last = firstToken < r._tokens ? r.EndOf(r._lastPosition, dims) : 0;
        r._lastBegin = r.BeginOf(r._lastPosition, dims);
        r._firstEnd = r.EndOf(r._firstPosition, dims);
        return r;
    }

    /// <summary>True if every query sees all tokens of an entry's page.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly bool SeesAll(int entry, int firstPosition, int pageTokens, int window) =>
        entry >= _lastBegin && entry < _firstEnd && firstPosition + pageTokens - 1 <= _firstPosition && firstPosition > _lastPosition - window;

    /// <summary>True if the window of every query begins behind a page.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly bool HasPassed(int firstPosition, int pageTokens, int window) => firstPosition + pageTokens <= _firstPosition + 1 - window;

    /// <summary>What <see cref="SeesAll"/> and <see cref="HasPassed"/> come to, worked out once.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly SeenPages Seen(LayerDims layer, KernelDims dims)
    {
        SeenPages seen = default;
        seen.WholeBegin = _lastBegin;
        seen.WholeEntries = AtLeast0(_firstEnd - _lastBegin);
        seen.WholeFirst = AtLeast0(_lastPosition - layer.Window + 1);
        seen.WholeTokens = AtLeast0(_firstPosition - dims.PageTokens + 2 - seen.WholeFirst);
        int passed = _firstPosition + 1 - layer.Window;
        seen.PassedLast = passed < 0 ? -1 : passed - dims.PageTokens;
        return seen;
    }

    /// <summary>True if page statistics are wanted of one of the block's queries.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly bool IsMeasured() => _measured >= _firstPosition && _measured <= _lastPosition;

    /// <summary>Tokens of a page that some query sees.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly int Seen(int firstPosition, int pageTokens)
    {
        int seen = _lastPosition - firstPosition + 1;
        return seen < 1 ? 1 : seen < pageTokens ? seen : pageTokens;
    }

    /// <summary>Where query <paramref name="r"/> of the block lies.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly QueryPlace Place(int r, LayerDims layer, KernelDims dims)
    {
        int token = (_firstQuery + r) / dims.GroupSize;
        int queryHead = (Head * dims.GroupSize) + (_firstQuery + r - (token * dims.GroupSize));
        return new QueryPlace(layer.Queries.At(_firstToken + token, queryHead), layer.Queries.Type, layer.Logits.Scale * TensorAttend.Log2E, token < _tokens);
    }

    /// <summary>Sets what the results of query <paramref name="r"/> of the block go by.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly void Start(ref ColumnState column, int r, KernelDims dims)
    {
        int token = (_firstQuery + r) / dims.GroupSize;
        column.Position = _length - _tokens + token;
        column.Begin = BeginOf(column.Position, dims);
        column.End = token < _tokens ? EndOf(column.Position, dims) : 0;
        column.Statistic = 2 * (_firstQuery + r - (token * dims.GroupSize));
        column.Written = column.Position == _measured ? AtLeast0(column.End - column.Begin) : 0;
        column.Most = -float.MaxValue;
        column.Sum = 0f;
    }

    private static int AtLeast0(int x) => x > 0 ? x : 0;

    private readonly int BeginOf(int position, KernelDims dims) => _segment * dims.PagesOfSegment(Visible(position, dims));

    private readonly int EndOf(int position, KernelDims dims)
    {
        int visible = Visible(position, dims);
        int end = (_segment + 1) * dims.PagesOfSegment(visible);
        return end < visible ? end : visible;
    }

    private readonly int Visible(int position, KernelDims dims) => _entries - (((_length - 1) / dims.PageTokens) - (position / dims.PageTokens));
}

/// <summary>Which pages every query of a block sees all of, and which none sees. For decoding; a chunk's kernels have no registers for it.</summary>
internal struct SeenPages
{
    /// <summary>The first entry that all queries see, and how many there are.</summary>
    public int WholeBegin;
    public int WholeEntries;

    /// <summary>The first position where a page may begin that they see all of, and how many there are.</summary>
    public int WholeFirst;
    public int WholeTokens;

    /// <summary>The last position where a page may begin that no query sees, as all windows begin behind it; -1 if there is none.</summary>
    public int PassedLast;

    /// <summary>True if every query sees all tokens of an entry's page.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly bool IsWhole(int entry, int firstPosition) =>
        (uint)(entry - WholeBegin) < (uint)WholeEntries & (uint)(firstPosition - WholeFirst) < (uint)WholeTokens;
}

/// <summary>A query's running results, in the lanes that hold its column.</summary>
internal struct ColumnState
{
    /// <summary>What products are multiplied by to be logits in base 2.</summary>
    public float Factor;

    /// <summary>A logit in base 2 is a product times Base times 2^Extra. Base is the factor, but where products times it could leave binary32.</summary>
    public float Base;

    public int Extra;

    /// <summary>Base and Extra before a soft cap; capped logits have a factor of 1.</summary>
    public float CapBase;

    public int CapExtra;

    /// <summary>What the product with a T page's mean is multiplied by, to be in the units of the products with its levels.</summary>
    public float MeanFactor;

    /// <summary>Logits from here on take no shift (<see cref="TileWeights.AdvanceBy"/>).</summary>
    public float Unshifted;

    /// <summary>Half of the sum of the query's whole numbers: levels are whole numbers and a half.</summary>
    public int HalfSum;

    /// <summary>The largest logit so far, in base 2 (in bfloat16 the largest product).</summary>
    public float Most;

    /// <summary>The sum of weights so far.</summary>
    public float Sum;

    public int Position;
    public int Begin;
    public int End;

    /// <summary>The first of the query's two words among the statistics of a page.</summary>
    public int Statistic;

    /// <summary>Entries from <see cref="Begin"/> on whose pages' statistics the query writes; none if it is not measured.</summary>
    public int Written;

    /// <summary>True if the query writes the statistics of an entry's page.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly bool IsWritten(int entry) => (uint)(entry - Begin) < (uint)Written;

    /// <summary>True if the query sees a position on the page of an entry.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly bool Sees(int entry, int position, int window) =>
        position <= Position && position > Position - window && entry >= Begin && entry < End;
}
