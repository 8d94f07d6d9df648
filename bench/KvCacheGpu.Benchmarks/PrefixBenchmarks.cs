using BenchmarkDotNet.Attributes;
using KvCacheGpu.Measuring;

namespace KvCacheGpu.Benchmarks;

/// <summary>
/// What sharing a prompt of 32k tokens costs, and what it saves: 4 layers of 8 KV heads of width 64 with 32 query heads, pages of 64 tokens.
/// </summary>
/// <remarks>
/// <see cref="PrefillWithoutAttention"/> is the least that reading the prompt takes: append and commit, no attention, no model.
/// <see cref="AttendAtTheMiddle"/> is the attention of 64 of its tokens at half its length; the prompt takes 512 times as much.
/// </remarks>
[MemoryDiagnoser]
public class PrefixBenchmarks
{
    private const int Tokens = 32 * 1024;
    private const int Chunk = 512;
    private const int Page = 64;

    private readonly KvGeometry _geometry = new(layers: 4, queryHeads: 32, kvHeads: 8, keyWidth: 64, pageTokens: Page);
    private readonly int[] _ids = [.. Enumerable.Range(0, Tokens)];
    private readonly BlockHash[] _hashes = new BlockHash[Tokens / Page];
    private readonly int[] _blocks = new int[Tokens / Page];
    private readonly float[] _output = new float[Page * 32 * 64];
    private float[] _keys = [];
    private float[] _queries = [];
    private KvCache? _cache;
    private KvSequence? _prompt;
    private KvSequence? _half;
    private KvSequence? _other;
    private PrefixPages? _pages;
    private PrefixChain? _reader;

    [GlobalSetup(Targets = [nameof(Hash), nameof(Publish), nameof(PrefillWithoutAttention), nameof(AttendAtTheMiddle)])]
    public void Fill()
    {
        _cache = new KvCache(_geometry, new KvCacheOptions { Device = "cpu", MaxTokens = Tokens, MaxSequences = 4, MaxBatchTokens = Chunk, MemoryBudgetBytes = 700L << 20 });
        var random = new Random(9);
        _keys = FilledCache.Gaussian(random, Chunk * 8 * 64);
        _queries = FilledCache.Gaussian(random, Page * 32 * 64);
        _prompt = _cache.CreateSequence();
        Read(_prompt);
        _half = _prompt.Fork();
        _half.Truncate(Tokens / 2);
        _other = _cache.CreateSequence();
        _pages = new PrefixPages((Tokens / Page) + 2, _cache.State.Tier.Shape, _cache.State.Pool, new MemoryLedger(null), events: false);
    }

    [GlobalSetup(Target = nameof(LookUp))]
    public void FillAndPublish()
    {
        Fill();
        Chain().Publish(_ids, _prompt!.State.Table);
        _reader = Chain();
    }

    [GlobalCleanup]
    public void Free() => _cache?.Dispose();

    /// <summary>SHA-256 over the prompt's 512 blocks.</summary>
    [Benchmark]
    public void Hash() => BlockHash.Chain(default, _ids, Page, _hashes);

    /// <summary>Hashes, finds and lists all pages of the prompt, and lets go of them.</summary>
    [Benchmark]
    public int LookUp()
    {
        BlockMatch match = _reader!.Hold(_ids.AsSpan(0, Tokens - 1), _blocks);
        SequenceState other = _other!.State;
        Refuse(_cache!.Life.MakeRoom(other, match.Tokens, "a look-up"));
        _reader.List(match, _blocks, other.Table);
        other.Table.CutTo(0);
        _reader.CutTo(0);
        return match.Tokens;
    }

    /// <summary>Makes a whole prompt hittable, as its commits do bit by bit, and forgets it.</summary>
    [Benchmark]
    public void Publish()
    {
        using PrefixChain chain = Chain();
        chain.Publish(_ids, _prompt!.State.Table);
        chain.CutTo(0);
        _pages!.Index.TryReset();
    }

    [Benchmark]
    public void PrefillWithoutAttention()
    {
        KvSequence sequence = _cache!.CreateSequence();
        Read(sequence);
        sequence.Dispose();
    }

    [Benchmark]
    public void AttendAtTheMiddle()
    {
        using KvStep step = _half!.Begin(_ids.AsSpan(0, Page));
        for (int layer = 0; layer < _geometry.Layers; layer++)
        {
            step.Append(layer, _keys.AsSpan(0, Page * 8 * 64), _keys.AsSpan(0, Page * 8 * 64));
            step.Attend(layer, _queries, _output);
        }
    }

    private static void Refuse(KvShortage? shortage)
    {
        if (shortage is { } lack)
        {
            throw new KvOutOfMemoryException(lack);
        }
    }

    private PrefixChain Chain()
    {
        var chain = new PrefixChain(_pages!, _cache!.State.Tier.Shape, default, null, new MemoryLedger(null));
        chain.Resize(Tokens / Page);
        return chain;
    }

    private void Read(KvSequence sequence)
    {
        for (int first = 0; first < Tokens; first += Chunk)
        {
            using KvStep step = sequence.Begin(_ids.AsSpan(first, Chunk));
            for (int layer = 0; layer < _geometry.Layers; layer++)
            {
                step.Append(layer, _keys, _keys);
            }

            step.Commit();
        }
    }
}
