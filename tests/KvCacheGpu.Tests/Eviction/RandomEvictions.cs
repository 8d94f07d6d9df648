using System.IO.Hashing;
using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests;

/// <summary>Random operations under a budget that binds: what must hold whatever the policy drops, after every one of them.</summary>
internal sealed class RandomEvictions : IDisposable
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    private readonly KvCache _cache;
    private readonly Random _random;
    private readonly PoolInvariants _invariants;
    private readonly List<ModelSequence> _live = [];
    private readonly Dictionary<KvSequence, HashSet<int>> _pinned = [];
    private readonly KvPolicy _policy;
    private readonly bool _isExact;
    private long _observed;
    private int _nextId = 1;

    public RandomEvictions(string policy, int seed)
    {
        _random = new Random(seed);
        PageFormat format = _random.Next(2) == 0 ? PageFormat.F32 : PageFormat.I8;
        _isExact = format == PageFormat.F32 && policy != "adaptive" && policy != "merge:adaptive";
        KvCacheOptions config = TightCaches.Config(policy, new KvFormats(format, format), maxSequences: 4);
        (config.MaxTokens, config.MaxBatchTokens) = (96, 12);
        config.Watermark = 0.5 + (_random.NextDouble() / 2);
        (config.PlanEvery, config.ScoreEvery, config.ObservedQueries) = (1 + _random.Next(8), 1 + _random.Next(2), 1 + _random.Next(8));
        config.MemoryBudgetBytes = TightCaches.MinimumOf(config, (g, c) => TestCaches.Simd(g, c)) + _random.Next(40_000);
        _policy = config.Policy!;
        _cache = TestCaches.Simd(G, config, (kind, bytes) => _observed += kind == AllocationKind.Arena ? 0 : bytes);
        _invariants = new PoolInvariants(_cache);
    }

    public Dictionary<string, int> Done { get; } = [];

    public void Run(int operations)
    {
        for (int i = 0; i < operations; i++)
        {
            Dictionary<KvSequence, Held> before = _live.ToDictionary(m => m.Sequence, m => Held.Of(m.Sequence));
            string done = Operate(out KvSequence? cut);
            Done[done] = Done.GetValueOrDefault(done) + 1;
            _invariants.Check(_live, everyPage: i % 256 == 0, _random);
            Assert.Equal(_observed, _cache.AllocatedBytes);
            foreach (ModelSequence model in _live)
            {
                CheckWhatStays(model.Sequence);
                if (_isExact && i % 16 == 0)
                {
                    model.Sequence.CheckContent();
                }

                if (model.Sequence != cut && before.TryGetValue(model.Sequence, out Held? held))
                {
                    Count(held.CheckOnlyLost(model.Sequence, IsFixedIn(held.Length, model.Sequence)));
                }
            }
        }
    }

    public void Finish()
    {
        foreach (ModelSequence model in _live)
        {
            model.Sequence.Dispose();
        }

        Assert.Equal(default, _cache.GetPageCounts());
        Assert.Equal(_cache.State.Pool.SlabCount, _cache.State.Pool.FreeSlabs);
        _cache.Dispose();
        Assert.Equal(0, _observed);
    }

    public void Dispose() => _cache.Dispose();

    // Forks share pages, and have tables of their own: a tight budget may lack them, and then nothing has changed.
    private string Fork(KvSequence some)
    {
        long before = _cache.AllocatedBytes;
        try
        {
            return Add(some.Fork(), some);
        }
        catch (KvOutOfMemoryException)
        {
            Assert.InRange(_cache.AllocatedBytes, 0, before);
            return "fork refused";
        }
    }

    private string Operate(out KvSequence? cut)
    {
        cut = null;
        if (_live.Count == 0)
        {
            return Add(_cache.CreateSequence(), null);
        }

        KvSequence some = _live[_random.Next(_live.Count)].Sequence;
        switch (_random.Next(100))
        {
            case < 3 when _live.Count < 4:
                return Add(_cache.CreateSequence(), null);
            case < 8 when _live.Count < 4:
                return Fork(some);
            case < 10:
                _live.RemoveAll(m => m.Sequence == some);
                _pinned.Remove(some);
                some.Dispose();
                return "free";
            case < 20 when some.Length > 0:
                cut = some;
                int length = some.Truncate(_random.Next(3) == 0 ? _random.Next(some.Length) : Math.Max(0, some.Length - _random.Next(6))).Length;

                // A cut among a merged page's tokens takes it whole; pins hold against policies.
                _pinned[some].RemoveWhere(t => t >= length || (some.State.Table.Dead is not null && !some.Holds(t, t + 1)));
                return "truncate";
            case < 25 when some.Length > 0:
                return Pin(some);
            case < 27:
                some.MarkSegment();
                return "segment";
            case < 40:
                return Batch();
            default:
                return Step([some], [1 + (_random.Next(6) == 0 ? _random.Next(12) : 0)]);
        }
    }

    private string Add(KvSequence sequence, KvSequence? parent)
    {
        _live.Add(new ModelSequence(sequence, [], []));
        _pinned[sequence] = parent is null ? [] : [.. _pinned[parent]];
        return parent is null ? "create" : "fork";
    }

    private string Pin(KvSequence sequence)
    {
        int start = _random.Next(sequence.Length);
        int length = _random.Next(Math.Min(6, sequence.Length - start) + 1);
        if (_random.Next(2) == 0)
        {
            // What was dropped before does not come back.
            sequence.Pin(start, length);
            _pinned[sequence].UnionWith(Enumerable.Range(start, length).Where(t => sequence.Holds(t, t + 1)));
            return "pin";
        }

        start = _random.Next(3) == 0 ? 0 : start;
        length = start == 0 ? sequence.Length : length;
        sequence.Unpin(start, length);
        _pinned[sequence].ExceptWith(Enumerable.Range(start, length));
        return "unpin";
    }

    private string Batch()
    {
        KvSequence[] some = [.. _live.OrderBy(_ => _random.Next()).Take(1 + _random.Next(3)).Select(m => m.Sequence)];
        return "batch " + Step(some, [.. some.Select(_ => 1 + _random.Next(3))]);
    }

    private string Step(KvSequence[] sequences, int[] counts)
    {
        int[] ids = [.. Enumerable.Range(_nextId, counts.Sum())];
        _nextId += ids.Length;
        if (!_cache.TryBegin(sequences, ids, counts, out KvStep step))
        {
            return "refused";
        }

        int stop = _random.Next(8) == 0 ? _random.Next(G.Layers) : G.Layers;
        bool isBad = stop == G.Layers && _random.Next(40) == 0;
        var output = new float[ids.Length * G.QueryHeads * G.ValueWidth];
        for (int layer = 0; layer < stop; layer++)
        {
            float[] keys = TokenContent.Keys(G, layer, ids);
            keys[^1] = isBad ? float.NaN : keys[^1];
            step.Append(layer, keys, TokenContent.Values(G, layer, ids));
            if (_random.Next(10) > 0)
            {
                step.Attend(layer, TokenContent.Queries(G, layer, ids), output);
            }
        }

        if (isBad)
        {
            Assert.Throws<KvNonFiniteException>(step.Commit);
            return "non-finite";
        }

        if (stop < G.Layers)
        {
            step.Dispose();
            return "abandon";
        }

        step.Commit();
        return "step";
    }

    private void Count(string? change)
    {
        if (change is not null)
        {
            Done[change] = Done.GetValueOrDefault(change) + 1;
        }
    }

    private Func<int, bool> IsFixedIn(int length, KvSequence sequence) => page =>
        (page * G.PageTokens) < _policy.SinkTokens
        || ((page + 1) * G.PageTokens) > Math.Max(length, sequence.Length) - _policy.WindowTokens
        || _pinned[sequence].Overlaps(Enumerable.Range(page * G.PageTokens, G.PageTokens));

    private void CheckWhatStays(KvSequence sequence)
    {
        Assert.True(sequence.Holds(0, Math.Min(_policy.SinkTokens, sequence.Length)), "sinks stay");
        Assert.All(_pinned[sequence], token => Assert.True(sequence.Holds(token, token + 1), "pins stay"));
    }

    /// <summary>What a sequence listed, and what was in the sealed pages among it.</summary>
    private sealed record Held(int Length, Dictionary<(int Row, int Page), (int Slot, int Class, bool IsShared, ulong Content)> Pages)
    {
        private const ulong Unsealed = 0;

        public static Held Of(KvSequence sequence)
        {
            PageTable table = sequence.State.Table;
            var pages = new Dictionary<(int, int), (int, int, bool, ulong)>();
            for (int row = 0; row < table.Rows; row++)
            {
                for (int entry = 0; entry < table.Count(row); entry++)
                {
                    int slot = table.Slot(row, entry);
                    pages[(row, table.PageIndex(row, entry))] = (slot, table.PageClass(row, entry), sequence.Cache.State.Pool.References(slot) > 1, ContentOf(sequence, row, entry));
                }
            }

            return new Held(table.Length, pages);
        }

        private static ulong ContentOf(KvSequence sequence, int row, int entry)
        {
            (KernelTier tier, PageTable table) = (sequence.Cache.State.Tier, sequence.State.Table);
            if (!table.IsSealed(row, entry))
            {
                return Unsealed;
            }

            // Decoded, as slots end in bytes that nobody writes.
            Span<float> vectors = stackalloc float[G.PageTokens * (G.KeyWidth + G.ValueWidth)];
            Span<float> keys = vectors[..(G.PageTokens * G.KeyWidth)];
            tier.Materialize([new PageRead(table.Slot(row, entry), table.PageClass(row, entry), G.PageTokens, 0, 1)], keys, vectors[keys.Length..]);
            return XxHash3.HashToUInt64(MemoryMarshal.AsBytes(vectors));
        }

        /// <summary>A page that was sealed is as it was, or was dropped or demoted while it was not fixed.</summary>
        public string? CheckOnlyLost(KvSequence sequence, Func<int, bool> isFixed)
        {
            PageTable table = sequence.State.Table;
            string? change = null;
            foreach (((int row, int page), (int slot, int pageClass, bool isShared, ulong content)) in Pages)
            {
                int entry = table.EntryOf(row, page);
                // A page that is written on in is copied where others, or its seal, must not see it.
                bool isWritten = pageClass == KernelShape.Open || content == Unsealed || page == Length / G.PageTokens;
                if (entry >= 0 && isWritten)
                {
                    continue;
                }

                bool isSame = entry >= 0 && table.PageClass(row, entry) == pageClass && ContentOf(sequence, row, entry) == content;
                if (isSame)
                {
                    // Moved as it is, to leave its slab to another size.
                    bool hasMoved = table.Slot(row, entry) != slot;
                    Assert.False(isShared && hasMoved, "a page that others hold too moves for nobody");
                    change ??= hasMoved ? "moved" : null;
                    continue;
                }

                Assert.False(isFixed(page), $"row {row}, page {page} of {Length} tokens was fixed");
                Assert.True(!isShared || entry < 0 || table.IsSealed(row, entry), "a demotion lists another page");
                change = entry < 0 ? "dropped" : table.IsMerged(row, entry) ? "merged" : "demoted";
                Assert.True(change != "demoted" || table.PageClass(row, entry) != pageClass, $"row {row}, page {page}: a sealed page changed");
            }

            return change;
        }
    }
}
