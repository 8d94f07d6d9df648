using KvCacheGpu.Kernels;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Tests;

/// <summary>Random operations on a cache and on plain lists, side by side.</summary>
internal sealed partial class RandomOperations : IDisposable
{
    // One of so many operations saves all and loads it: rarely, since each goes through a whole store.
    private const int OperationsPerSave = 200;

    private readonly KvCache _cache;
    private readonly KvCacheOptions _config;
    private readonly KvGeometry _geometry = TestCaches.Tiny;
    private readonly WindowPolicy? _policy;
    private readonly Random _random;
    private readonly PoolInvariants _invariants;
    private readonly List<ModelSequence> _live = [];
    private readonly ModelRun _run;
    private int _nextId = 1;

    public RandomOperations(ModelRun run, int seed)
    {
        _config = run.Config();
        _config.MemoryBudgetBytes = CacheCreation.BytesFor(_geometry, _config, ReferenceTier).BudgetBytes * run.BudgetPercent / 100;
        _cache = TestCaches.Reference(_geometry, _config, Observe);
        (_run, _policy, _random) = (run, (_config.Policy as SlidingOnly)?.Window, new Random(seed));
        _invariants = new PoolInvariants(_cache);
    }

    public Dictionary<string, int> Done { get; } = [];

    public int SealedSeen => _invariants.SealedSeen;

    private long Observed { get; set; }

    private int P => _geometry.PageTokens;

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
        Assert.Equal(_cache.State.Pool.SlabCount, _cache.State.Pool.FreeSlabs);
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

        if (_random.Next(OperationsPerSave) == 0)
        {
            return SaveAndLoad();
        }

        return _random.Next(100) switch
        {
            < 4 => Create(),
            < 14 when _run.Demotions.Length > 0 => Demote(),
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
        if (_live.Count == _cache.State.Options.MaxSequences)
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
        if (_live.Count == _cache.State.Options.MaxSequences)
        {
            Assert.Throws<KvOutOfMemoryException>(parent.Sequence.Fork);
            return "fork refused";
        }

        (long before, long bytes) = (_cache.State.Pool.OpenSlots + _cache.State.Pool.SealedSlots, _cache.AllocatedBytes);
        try
        {
            _live.Add(parent.ForkAs(parent.Sequence.Fork()));
        }
        catch (KvOutOfMemoryException)
        {
            // A fork has tables of its own.
            Assert.Equal(bytes, _cache.AllocatedBytes);
            return "fork without room";
        }

        Assert.Equal(before, _cache.State.Pool.OpenSlots + _cache.State.Pool.SealedSlots);
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
        int exactTo = model.ExactTo;
        int target = _random.Next(3) == 0 ? _random.Next(length + 1) : Math.Min(length, exactTo + _random.Next(_run.Rollback + 1));
        KvTruncation expected = model.Cut(target);
        Assert.Equal(expected, model.Sequence.Truncate(target));
        if (target >= exactTo)
        {
            Assert.Equal(new KvTruncation(target, 0), expected);
        }

        return target < exactTo ? "truncate deep" : "truncate";
    }

    private void CheckShape(ModelSequence model)
    {
        Assert.Equal(model.Tokens.Count, model.Sequence.Length);
        Assert.True(model.Sequence.TokenIds.SequenceEqual([.. model.Tokens]), "token ids");
        PageTable table = model.Sequence.State.Table;
        for (int row = 0; row < table.Rows; row++)
        {
            Assert.Equal(model.Pages.Count, table.Count(row));
            for (int entry = 0; entry < model.Pages.Count; entry++)
            {
                Assert.Equal(model.Pages[entry], table.PageIndex(row, entry));
                ModelPage page = model.States[(row, model.Pages[entry])];
                Assert.True(
                    page.Class == table.PageClass(row, entry),
                    $"row {row}, page {model.Pages[entry]} of {model.Tokens.Count} tokens: class {table.PageClass(row, entry)}, expected {page}; ids {string.Join(' ', model.TokensOf(model.Pages[entry]))}");
                Assert.Equal(model.Pages[entry] < model.SealedPages, table.IsSealed(row, entry));
            }
        }
    }

    private static ReferenceTier ReferenceTier(KernelShape shape, long bytes, AllocationObserver? observer) => new(shape, bytes, observer);
}
