using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>The policy's knowledge of one sequence that the tables do not hold: its own memory, and the steps and queries it has seen.</summary>
internal sealed class SequenceScores : IDisposable
{
    private readonly KernelTier _tier;
    private readonly int _sequence;
    private readonly LayerSet _read;

    /// <param name="tier">Holds the tables.</param>
    /// <param name="state">The policy's own memory of the sequence, or null.</param>
    /// <param name="needs">Statistics that plans ask for.</param>
    /// <param name="sequence">The sequence's place in the tables.</param>
    /// <param name="ledger">Told of the memory.</param>
    public SequenceScores(KernelTier tier, object? state, KvStatistics needs, int sequence, MemoryLedger ledger)
    {
        (_tier, _sequence) = (tier, sequence);
        _read = new LayerSet(tier.Shape.Geometry.Layers);
        State = state;
        Moments = needs.Has(KvStatistics.Queries) ? new RowMoments(tier.Shape, ledger) : null;
        Future = needs.Has(KvStatistics.FutureQueries) ? new FutureQueries(tier.Shape.Geometry, ledger) : null;
    }

    /// <summary>The policy's own memory of the sequence, if it keeps one.</summary>
    public object? State { get; }

    /// <summary>Squares of queries and outputs, if the policy asks for them.</summary>
    public RowMoments? Moments { get; }

    /// <summary>The queries that are expected, if plans ask for them.</summary>
    public FutureQueries? Future { get; }

    /// <summary>Steps that the masses sum up.</summary>
    public long Samples { get; set; }

    public static long BookkeepingBytes(KernelShape shape, KvStatistics needs) =>
        (needs.Has(KvStatistics.Queries) ? RowMoments.BookkeepingBytes(shape) : 0)
        + (needs.Has(KvStatistics.FutureQueries) ? FutureQueries.BookkeepingBytes(shape.Geometry) : 0);

    /// <summary>Takes over the scores of pages that are shared with another sequence; the policy's memory of that sequence stays its own.</summary>
    /// <param name="other">The other's.</param>
    /// <param name="leaves">Leaves of both tables.</param>
    /// <param name="words">Lent for the copy: <see cref="TableMap.LeafScoreWords"/>; empty where tables hold no scores.</param>
    public void ShareWith(SequenceScores other, int leaves, Span<int> words)
    {
        Samples = other.Samples;
        Moments?.CopyFrom(other.Moments!);
        Future?.CopyFrom(other.Future!);
        Rewrite(other._sequence, leaves, words, static _ => { });
    }

    /// <summary>Takes over what a committed step has seen.</summary>
    /// <param name="isSample">True if the masses take part of it.</param>
    public void Join(bool isSample)
    {
        Samples += isSample ? 1 : 0;
        Moments?.Join();
        Future?.Join(_tier.Shape.Geometry.GroupSize);
    }

    /// <summary>Takes over what a query outside of steps has seen of a layer. Such queries are one sample until they come to a layer again.</summary>
    /// <param name="layer">Layer.</param>
    /// <param name="isSample">True if the masses take part of it.</param>
    public void JoinRead(int layer, bool isSample)
    {
        bool isFirst = _read[layer] || !_read.Any;
        if (isFirst)
        {
            _read.Clear();
        }

        _read.Add(layer);
        Join(isSample && isFirst);
    }

    /// <summary>Sees the queries of the sequence's tokens in a step, and the output that they got.</summary>
    /// <param name="layer">Layer.</param>
    /// <param name="tokens">The sequence's part of the tensors.</param>
    /// <param name="queries"><c>[tokens][query heads][key width]</c>.</param>
    /// <param name="output"><c>[tokens][query heads][value width]</c>; not seen if it lies on the device.</param>
    public void See(int layer, in RaggedSequence tokens, KvTensor queries, KvOutput output)
    {
        KvGeometry geometry = _tier.Shape.Geometry;
        Moments?.See(geometry, layer, tokens.FirstToken + tokens.Tokens - 1, queries, output);
        Future?.See(geometry, layer, tokens.FirstToken, tokens.Tokens, tokens.Length - tokens.Tokens, queries);
    }

    /// <summary>Forgets what an abandoned step saw.</summary>
    public void Forget()
    {
        Moments?.Forget();
        Future?.Forget();
    }

    /// <summary>Takes NaN and infinities, as a refused step leaves them behind, out of the scores. The caller is inside of the device gate.</summary>
    public void Repair(int leaves, Span<int> words) => Rewrite(_sequence, leaves, words, static words =>
    {
        for (int i = 0; i < words.Length; i++)
        {
            bool isNumber = i % TableMap.ScoreWords is TableMap.ScoreLastUsed or TableMap.ScoreUses;
            words[i] = isNumber || float.IsFinite(BitConverter.Int32BitsToSingle(words[i])) ? words[i] : 0;
        }
    });

    /// <summary>Forgets the attention of earlier prompts' last queries. The caller is inside of the device gate.</summary>
    public void ClearWindow(int leaves, Span<int> words) => Rewrite(_sequence, leaves, words, static words =>
    {
        for (int i = TableMap.ScoreWindow; i < words.Length; i += TableMap.ScoreWords)
        {
            words[i] = 0;
        }
    });

    public void Dispose()
    {
        Moments?.Dispose();
        Future?.Dispose();
    }

    private void Rewrite(int from, int leaves, Span<int> words, Change change)
    {
        for (int leaf = 0; leaf < leaves && _tier.Shape.HasStatistics; leaf++)
        {
            _tier.Read(_tier.LeafScoresWord(from, leaf), words);
            change(words);
            _tier.Load(_tier.LeafScoresWord(_sequence, leaf), words);
        }
    }

    private delegate void Change(Span<int> words);
}
