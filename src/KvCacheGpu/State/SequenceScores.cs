using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>What a sequence knows of its pages' worth beside what the tables hold: the policy's memory, and how much was seen.</summary>
internal sealed class SequenceScores : IDisposable
{
    private readonly KernelTier _tier;
    private readonly int _sequence;
    private readonly LayerSet _read;

    public SequenceScores(KernelTier tier, KvPolicy policy, KvStatistics needs, int sequence, MemoryLedger ledger)
    {
        (_tier, _sequence) = (tier, sequence);
        _read = new LayerSet(tier.Shape.Geometry.Layers);
        State = policy.CreateState(tier.Shape.Geometry);
        Moments = needs.Has(KvStatistics.Queries) ? new RowMoments(tier.Shape, ledger) : null;
        Future = needs.Has(KvStatistics.FutureQueries) ? new FutureQueries(tier.Shape.Geometry, ledger) : null;
    }

    /// <summary>What the policy remembers of the sequence.</summary>
    public object? State { get; }

    /// <summary>Squares of queries and outputs, where the policy asks for them.</summary>
    public RowMoments? Moments { get; }

    /// <summary>What queries to come are expected to be, where plans ask for it.</summary>
    public FutureQueries? Future { get; }

    /// <summary>Steps that the masses sum up.</summary>
    public long Samples { get; set; }

    public static long BookkeepingBytes(KernelShape shape, KvStatistics needs) =>
        (needs.Has(KvStatistics.Queries) ? RowMoments.BookkeepingBytes(shape) : 0)
        + (needs.Has(KvStatistics.FutureQueries) ? FutureQueries.BookkeepingBytes(shape.Geometry) : 0);

    /// <summary>Takes over what is known of pages that are shared with another sequence; what its policy remembers stays its own.</summary>
    /// <param name="other">The other's.</param>
    /// <param name="pages">Pages from the first on, of every row.</param>
    /// <param name="memory">Lent for the copy; its gate is held.</param>
    public void ShareWith(SequenceScores other, int pages, PlanMemory memory)
    {
        Samples = other.Samples;
        Moments?.CopyFrom(other.Moments!);
        Future?.CopyFrom(other.Future!);
        Rewrite(other._sequence, pages, memory, static _ => { });
    }

    /// <summary>Makes what a committed step saw the sequence's.</summary>
    /// <param name="isSample">Whether masses took part of it.</param>
    public void Publish(bool isSample)
    {
        Samples += isSample ? 1 : 0;
        Moments?.Publish();
        Future?.Publish(_tier.Shape.Geometry.GroupSize);
    }

    /// <summary>Makes what a query outside of steps saw of a layer the sequence's. Such queries are one sample until they come to a layer again.</summary>
    /// <param name="layer">Layer.</param>
    /// <param name="isSample">Whether masses took part of it.</param>
    public void PublishRead(int layer, bool isSample)
    {
        bool isFirst = _read[layer] || !_read.Any;
        if (isFirst)
        {
            _read.Clear();
        }

        _read.Add(layer);
        Publish(isSample && isFirst);
    }

    /// <summary>Takes in what the sequence's tokens of a step asked a layer and got.</summary>
    /// <param name="layer">Layer.</param>
    /// <param name="tokens">The sequence's part of the tensors.</param>
    /// <param name="queries"><c>[tokens][query heads][key width]</c>.</param>
    /// <param name="output"><c>[tokens][query heads][value width]</c>, or empty.</param>
    public void See(int layer, in RaggedSequence tokens, KvTensor queries, ReadOnlySpan<float> output)
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

    /// <summary>Takes what is no number, as a refused step leaves it behind, out of the scores.</summary>
    public void Repair(int pages, PlanMemory memory) => Rewrite(_sequence, pages, memory, static words =>
    {
        for (int i = 0; i < words.Length; i++)
        {
            bool isNumber = i % TableMap.ScoreWords is TableMap.ScoreLastUsed or TableMap.ScoreUses;
            words[i] = isNumber || float.IsFinite(BitConverter.Int32BitsToSingle(words[i])) ? words[i] : 0;
        }
    });

    /// <summary>Forgets what earlier prompts' last queries attended to.</summary>
    public void ClearWindow(int pages, PlanMemory memory) => Rewrite(_sequence, pages, memory, static words =>
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

    private void Rewrite(int from, int pages, PlanMemory memory, Change change)
    {
        KvGeometry geometry = _tier.Shape.Geometry;
        Span<int> words = memory.RowScores[..(pages * TableMap.ScoreWords)];
        for (int row = 0; row < geometry.Layers * geometry.KvHeads && pages > 0; row++)
        {
            _tier.Read(_tier.Map.ScoreWord(_tier.Map.Row(from, 0, 0) + row, 0), words);
            change(words);
            _tier.Load(_tier.Map.ScoreWord(_tier.Map.Row(_sequence, 0, 0) + row, 0), words);
        }
    }

    private delegate void Change(Span<int> words);
}
