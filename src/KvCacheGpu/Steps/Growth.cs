using System.Numerics;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// What a sequence takes on its way to a length, by steps of as many tokens as one may have, while no other sequence steps. The caller is inside of the pool's
/// gate, and the sequence is its own.
/// </summary>
/// <remarks>
/// <code>
/// a step from length l on by s tokens, while it is under way, beside what was there before the first one:
///   open     pages of l + s, and copies of a last page that is shared or sealed, without those that were sealed and given back by l
///   sealed   pages that l + s leaves behind, of layers that do not seal where pages lie
///   leaves   of the table, and the bookkeeping that grows with them
/// </code>
/// Later steps take as much or more of each, so that few need to be looked at: the first, and from the end as many as there are places in a page where a step
/// may begin. Slabs of open pages count as taken for good, since a slab is given back only when its last page goes.
/// </remarks>
internal readonly ref struct Growth
{
    private readonly CacheState _cache;
    private readonly int _length;
    private readonly long _pages;
    private readonly int _firstOpen;
    private readonly int _rows;
    private readonly int _movingRows;
    private readonly int _places;
    private readonly int _tails;
    private readonly SlotCounts _sealedPage;
    private readonly SlotCounts _tailsListed;
    private readonly SlotCounts _tailsFreed;
    private readonly Span<int> _shared;

    /// <summary>Of a new sequence.</summary>
    /// <param name="cache">The cache.</param>
    public Growth(CacheState cache)
    {
        _cache = cache;
        _rows = cache.Geometry.Layers * cache.Geometry.KvHeads;
        for (int layer = 0; layer < cache.Geometry.Layers; layer++)
        {
            _sealedPage[cache.Classes.SealedIn(layer)] += cache.Classes.SealsInPlace(layer) ? 0 : cache.Geometry.KvHeads;
        }

        _movingRows = _sealedPage.Total;
        _places = PageTokens / (int)BigInteger.GreatestCommonDivisor(PageTokens, cache.Options.MaxBatchTokens);
    }

    /// <summary>Of a sequence that is there.</summary>
    /// <param name="cache">The cache.</param>
    /// <param name="sequence">The sequence.</param>
    /// <param name="room">Room for one number for each of its pages that is open (<see cref="OpenPages"/>).</param>
    public Growth(CacheState cache, SequenceState sequence, Span<int> room)
        : this(cache)
    {
        PageTable table = sequence.Table;
        (_length, _pages, _firstOpen) = (table.Length, table.PagesFor(table.Length), FirstOpenOf(cache, table));
        _shared = room;
        _shared.Clear();
        for (int row = 0; row < _rows; row++)
        {
            bool moves = !cache.Classes.SealsInPlace(row / cache.Geometry.KvHeads);
            int last = table.Count(row) - 1;
            bool replacesTail = StepPages.MustReplaceTail(cache, table, row);
            if (replacesTail)
            {
                int pageClass = table.PageClass(row, last);
                _tails++;
                _tailsListed[pageClass]++;
                _tailsFreed[pageClass] += cache.Pool.IsHeldOnce(table.Slot(row, last)) ? 1 : 0;
            }

            for (int entry = last - (replacesTail ? 1 : 0); moves && entry >= 0 && table.PageIndex(row, entry) >= _firstOpen; entry--)
            {
                _shared[table.PageIndex(row, entry) - _firstOpen] += cache.Pool.IsWritable(table.Slot(row, entry)) ? 0 : 1;
            }
        }
    }

    private int PageTokens => _cache.Geometry.PageTokens;

    /// <summary>Pages of each row that a sequence may still write in.</summary>
    public static int OpenPages(CacheState cache, SequenceState sequence) => sequence.Table.PagesFor(sequence.Length) - FirstOpenOf(cache, sequence.Table);

    /// <summary>Says what the cache lacks, or null if the sequence can grow.</summary>
    /// <param name="what">What it is for, for the message.</param>
    /// <param name="tokens">Tokens more.</param>
    /// <param name="bytes">Bytes that are needed beside it.</param>
    public KvShortage? WhyNot(string what, long tokens, long bytes)
    {
        Room room = _cache.Room;
        SlotCounts slabs = default;
        KvShortage? shortage = room.WhyNotBytes(what, bytes);
        long steps = StepsOf(tokens);
        for (long step = 0; step < steps; step = NextOf(step, steps))
        {
            SlotCounts taken = TakenBy(step, tokens);
            long tables = TableBytesOf(step, tokens);
            shortage = More(shortage, room.WhyNotBytes(what, _cache.Pool.BytesOf(room.WithSpare(taken)) + tables + bytes + room.StepMemoryBytes));
            for (int c = 0; c < SlotCounts.Kinds; c++)
            {
                slabs[c] = Math.Max(slabs[c], OfSize(taken, c));
            }
        }

        slabs = room.WithSpare(slabs);
        long lacking = tokens == 0 ? 0 : _cache.Pool.LackingWithoutCached(slabs);
        long wanted = _cache.Pool.BytesOf(slabs);
        return lacking == 0 ? shortage : More(shortage, new KvShortage(what, KvResource.SlabBytes, wanted, wanted - lacking));
    }

    /// <summary>Says what the tenant's quota lacks, or null if it lets the sequence grow.</summary>
    /// <param name="what">What it is for, for the message.</param>
    /// <param name="account">The tenant.</param>
    /// <param name="tokens">Tokens more.</param>
    public KvShortage? WhyNot(string what, TenantAccount account, long tokens)
    {
        long bytes = 0;
        long steps = account.Quota is null ? 0 : StepsOf(tokens);
        for (long step = 0; step < steps; step = NextOf(step, steps))
        {
            bytes = Math.Max(bytes, _cache.Pool.BytesOf(ListedBy(step, tokens)));
        }

        return TenantRoom.WhyNot(_cache, account, what, bytes, tokens);
    }

    /// <summary>The most tokens that the sequence can grow by.</summary>
    public int Most()
    {
        SlotCounts page = _sealedPage + SlotCounts.Of(KernelShape.Open, _rows - _movingRows);
        long pages = Math.Max(0, _cache.Room.FreeBytes) / _cache.Pool.BytesOf(page);
        (long least, long most) = (0, Math.Min(int.MaxValue, (pages + 1) * PageTokens));
        while (least < most)
        {
            long middle = (least + most + 1) / 2;
            (least, most) = WhyNot("tokens", middle, 0) is null ? (middle, most) : (least, middle - 1);
        }

        return (int)least;
    }

    private static KvShortage? More(KvShortage? one, KvShortage? other) => other is null || one?.Missing >= other.Value.Missing ? one : other;

    private static int FirstOpenOf(CacheState cache, PageTable table) => StepPages.FirstOpenOf(table, cache.Geometry.PageTokens);

    private long StepsOf(long tokens)
    {
        int most = _cache.Options.MaxBatchTokens;
        return (tokens + most - 1) / most;
    }

    // The first, then those from the end on that begin at different places in a page.
    private long NextOf(long step, long steps) => step > 0 ? step + 1 : Math.Max(1, steps - 1 - _places);

    private (long From, long To) LengthsOf(long step, long tokens)
    {
        int most = _cache.Options.MaxBatchTokens;
        return (_length + (step * most), _length + Math.Min(tokens, (step + 1) * most));
    }

    private SlotCounts TakenBy(long step, long tokens)
    {
        (long from, long to) = LengthsOf(step, tokens);
        long before = FirstOpenAt(from);
        SlotCounts taken = Sealed(FirstOpenAt(to));
        long given = (before - _firstOpen) * _movingRows;
        for (int page = 0; page < Math.Min(_shared.Length, before - _firstOpen); page++)
        {
            given -= _shared[page];
        }

        taken[KernelShape.Open] += Slots(((PagesAt(to) - _pages) * _rows) + _tails - given);
        taken[SlotCounts.Leaf] = Slots(LeavesAt(to) - LeavesAt(_length));
        return step == 0 ? taken : Without(taken, _tailsFreed);
    }

    private SlotCounts ListedBy(long step, long tokens)
    {
        (long from, long to) = LengthsOf(step, tokens);
        long before = FirstOpenAt(from);
        SlotCounts listed = Sealed(before);
        listed[KernelShape.Open] += Slots(((PagesAt(to) - _pages) * _rows) + _tails - ((before - _firstOpen) * _movingRows));
        return step == 0 ? listed : Without(listed, _tailsListed);
    }

    private SlotCounts Sealed(long firstOpen)
    {
        SlotCounts slots = default;
        for (int c = 0; c < KernelShape.MaxClasses; c++)
        {
            slots[c] = Slots((firstOpen - _firstOpen) * _sealedPage[c]);
        }

        return slots;
    }

    // Slots of all kinds that have the size of a kind, told of the first of these.
    private int OfSize(in SlotCounts slots, int kind)
    {
        int sum = 0;
        for (int k = 0; k < SlotCounts.Kinds; k++)
        {
            bool isSame = UnitsOf(k) == UnitsOf(kind);
            if (isSame && k < kind)
            {
                return 0;
            }

            sum += isSame ? slots[k] : 0;
        }

        return sum;
    }

    private int UnitsOf(int kind) =>
        kind == SlotCounts.Leaf ? _cache.Tier.Map.LeafUnits : kind < _cache.Classes.Count ? _cache.Classes.Shape.Classes[kind].Units : 0;

    private static SlotCounts Without(SlotCounts slots, in SlotCounts others)
    {
        for (int c = 0; c < SlotCounts.Kinds; c++)
        {
            slots[c] -= others[c];
        }

        return slots;
    }

    // More slots than an int counts are more than any cache has.
    private static int Slots(long slots) => (int)Math.Min(slots, int.MaxValue / SlotCounts.Kinds / 2);

    private long PagesAt(long length) => (length + PageTokens - 1) / PageTokens;

    private long FirstOpenAt(long length) => Math.Max(_firstOpen, _cache.Classes.Seals.FirstOpen((int)Math.Min(length, int.MaxValue)));

    private int LeavesAt(long length) => _cache.Tier.Map.LeavesFor((int)Math.Min(PagesAt(length), TableMap.MaxPageIndex));

    // Bytes of bookkeeping that a table takes beside its leaves, more than at the beginning.
    private long TableBytesOf(long step, long tokens) =>
        _cache.SequenceSize.Bytes(LeavesAt(LengthsOf(step, tokens).To)) - _cache.SequenceSize.Bytes(LeavesAt(_length));
}
