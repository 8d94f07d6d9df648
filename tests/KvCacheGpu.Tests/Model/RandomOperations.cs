using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests;

/// <summary>Random operations on a cache and on plain lists, side by side.</summary>
internal sealed partial class RandomOperations : IDisposable
{
    private readonly KvCache _cache;
    private readonly KvGeometry _geometry = TestCaches.Tiny;
    private readonly WindowPolicy? _policy;
    private readonly Random _random;
    private readonly PoolInvariants _invariants;
    private readonly List<ModelSequence> _live = [];
    private readonly bool _exact;
    private int _nextId = 1;

    public RandomOperations(PageFormat key, PageFormat value, WindowPolicy? policy, long slabBudget, int seed)
    {
        KvCacheConfig config = TestCaches.Config(key, maxTokens: 64, maxSequences: 6, maxBatchTokens: 24);
        (config.ValueFormat, config.Policy) = (value, policy);
        using (KvCache roomy = TestCaches.Reference(_geometry, config))
        {
            config.MemoryBudgetBytes = roomy.BudgetBytes * slabBudget / 100;
        }

        _cache = TestCaches.Reference(_geometry, config, Observe);
        (_policy, _random, _exact) = (policy, new Random(seed), key.IsFullPrecision() && value.IsFullPrecision());
        _invariants = new PoolInvariants(_cache);
    }

    public Dictionary<string, int> Done { get; } = [];

    public int SealedSeen => _invariants.SealedSeen;

    private long Observed { get; set; }

    private int P => _geometry.PageTokens;

    private int Rows => _geometry.Layers * _geometry.KvHeads;

    public void Run(int operations)
    {
        for (int i = 0; i < operations; i++)
        {
            string done = Operate();
            Done[done] = Done.GetValueOrDefault(done) + 1;
            _invariants.Check(_live, everyPage: i % 64 == 0, _random);
            Assert.Equal(_cache.AllocatedBytes, Observed);
            if (_live.Count > 0)
            {
                ModelSequence some = Any();
                CheckShape(some);
                if (i % 8 == 0)
                {
                    CheckContent(some);
                }
            }
        }
    }

    /// <summary>Frees everything: nothing may be left.</summary>
    public void Finish()
    {
        while (_live.Count > 0)
        {
            Free();
        }

        Assert.Equal(default, _cache.GetPageCounts());
        Assert.Equal(_cache.Pool.SlabCount, _cache.Pool.FreeSlabs);
        _cache.Dispose();
        Assert.Equal(0, Observed);
    }

    public void Dispose() => _cache.Dispose();

    private void Observe(AllocationKind kind, long bytes) => Observed += kind == AllocationKind.Arena ? 0 : bytes;

    private string Operate()
    {
        if (_live.Count == 0)
        {
            return Create();
        }

        return _random.Next(100) switch
        {
            < 4 => Create(),
            < 46 => Step(End.Commit),
            < 56 => Step(End.Abandon),
            < 59 => Step(End.NonFinite),
            < 71 => Batch(),
            < 79 => Fork(),
            < 92 => Truncate(),
            _ => Free(),
        };
    }

    private ModelSequence Any() => _live[_random.Next(_live.Count)];

    private string Create()
    {
        if (_live.Count == _cache.Settings.MaxSequences)
        {
            Assert.Equal("E001", Assert.Throws<KvOutOfMemoryException>(_cache.CreateSequence).Code);
            return "create refused";
        }

        _live.Add(new ModelSequence(_cache.CreateSequence(), [], []));
        return "create";
    }

    private string Fork()
    {
        ModelSequence parent = Any();
        if (_live.Count == _cache.Settings.MaxSequences)
        {
            Assert.Throws<KvOutOfMemoryException>(parent.Sequence.Fork);
            return "fork refused";
        }

        long before = _cache.Pool.OpenSlots + _cache.Pool.SealedSlots;
        _live.Add(parent.ForkAs(parent.Sequence.Fork()));
        Assert.Equal(before, _cache.Pool.OpenSlots + _cache.Pool.SealedSlots);
        return "fork";
    }

    private string Free()
    {
        ModelSequence gone = Any();
        _live.Remove(gone);
        gone.Sequence.Dispose();
        return "free";
    }

    private string Truncate()
    {
        ModelSequence model = Any();
        int length = model.Tokens.Count;
        int target = _random.Next(3) == 0 ? _random.Next(length + 1) : Math.Max(0, length - _random.Next(P + 1));
        bool exact = target >= length - P && length / P - 1 == model.SealedPages;
        KvTruncation expected = model.Cut(target, P, Rows, !_exact);
        Assert.Equal(expected, model.Sequence.Truncate(target));
        if (exact)
        {
            Assert.Equal(0, expected.ReencodedPages);
        }

        return target < length - P ? "truncate deep" : "truncate";
    }

    private void CheckShape(ModelSequence model)
    {
        Assert.Equal(model.Tokens.Count, model.Sequence.Length);
        Assert.True(model.Sequence.TokenIds.SequenceEqual([.. model.Tokens]), "token ids");
        PageTable table = model.Sequence.Table;
        for (int row = 0; row < table.Rows; row++)
        {
            Assert.Equal(model.Pages.Count, table.Count(row));
            for (int entry = 0; entry < model.Pages.Count; entry++)
            {
                Assert.Equal(model.Pages[entry], table.PageIndex(row, entry));
                Assert.Equal(model.Pages[entry] < model.SealedPages ? KernelShape.Sealed : KernelShape.Open, table.PageClass(row, entry));
            }
        }
    }

    private void CheckContent(ModelSequence model)
    {
        int layer = _random.Next(_geometry.Layers);
        int[] ids = model.ResidentIds(P);
        (float[] keys, float[] values) = model.Sequence.Materialized(layer);
        Compare(TokenContent.Keys(_geometry, layer, ids), keys);
        Compare(TokenContent.Values(_geometry, layer, ids), values);
        Assert.Equal(model.Tokens.Count - ids.Length, model.Sequence.EvictedTokens);
    }

    // An I8 vector of width 8 and norm below 6 is off by half a step, 6 / 254, and some more each time that it is encoded again.
    private void Compare(float[] expected, float[] actual)
    {
        Assert.Equal(expected.Length, actual.Length);
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.True(_exact ? expected[i] == actual[i] : Math.Abs(expected[i] - actual[i]) < 0.4f, $"element {i}: {expected[i]} became {actual[i]}");
        }
    }
}
