using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Asks the policy about one sequence and carries out what it says: shows it the sequence's pages and their scores, drops references, writes
/// pages anew. One per cache; sequences come one at a time, each held by who calls.
/// </summary>
internal sealed partial class EvictionPlan : IDisposable
{
    private const int DemotedAtOnce = 64;

    private readonly KvCache _cache;
    private readonly KvPolicy _policy;
    private readonly PlanRungs _rungs;
    private readonly PageMerging? _merging;
    private readonly Func<KvSequence, int, int, bool> _isNeighbour;

    public EvictionPlan(KvCache cache, KvPolicy policy, MemoryLedger ledger)
    {
        (_cache, _policy, _rungs) = (cache, policy, new PlanRungs(cache.Classes));
        Memory = new PlanMemory(cache.Tier.Shape, cache.Needs, ledger);
        _merging = cache.Settings.MergePages ? new PageMerging(cache, Memory) : null;
        _isNeighbour = IsNeighbour;
    }

    /// <summary>Where plans are made.</summary>
    public PlanMemory Memory { get; }

    public void Dispose() => Memory.Dispose();

    /// <summary>Bytes that a sequence could give.</summary>
    public long Evictable(KvSequence sequence)
    {
        PageTable table = sequence.Table;
        long bytes = 0;
        lock (_cache.Pool.Gate)
        {
            for (int row = 0; row < table.Rows; row++)
            {
                int pages = table.DroppablePages(row);
                for (int entry = 0; entry < pages; entry++)
                {
                    bytes += IsFixed(sequence, row, entry) ? 0 : table.FreedBy(row, entry);
                }
            }
        }

        return bytes;
    }

    /// <summary>Plans for a sequence and carries it out.</summary>
    /// <param name="sequence">Held by the caller; between steps, or inside of Commit once it is published.</param>
    /// <param name="bytesToFree">Bytes to free; 0 where nothing binds.</param>
    /// <param name="step">Steps committed.</param>
    /// <param name="mayDemote">Whether pages may shrink; else they stay or go.</param>
    /// <returns>Bytes freed.</returns>
    public long Evict(KvSequence sequence, long bytesToFree, long step, bool mayDemote = true)
    {
        lock (Memory.Gate)
        {
            List(sequence, mayDemote);
            ReadScores(sequence);
            ReadKeys(sequence);
            sequence.Scores?.Future?.Foresee(sequence.Length, Memory.FutureMean, Memory.FutureVariance);
            Memory.Plan.Clear();
            _policy.Plan(PagesOf(sequence, step), bytesToFree, Memory.Plan, sequence.Scores?.State);
            return Drop(sequence) + Demote(sequence);
        }
    }

    private bool IsFixed(KvSequence sequence, int row, int entry) =>
        IsFixedSpan(sequence, sequence.Table.FirstPageOf(row, entry), sequence.Table.PageIndex(row, entry));

    private bool IsFixedSpan(KvSequence sequence, int firstPage, int lastPage)
    {
        long start = (long)firstPage * _cache.Geometry.PageTokens;
        long end = ((long)lastPage + 1) * _cache.Geometry.PageTokens;
        return start < _policy.SinkTokens || end > (long)sequence.Length - _policy.WindowTokens || sequence.IsPinned(start, end);
    }

    private void List(KvSequence sequence, bool mayDemote)
    {
        PageTable table = sequence.Table;
        _rungs.Clear();
        lock (_cache.Pool.Gate)
        {
            int count = 0;
            for (int row = 0; row < table.Rows; row++)
            {
                Memory.RowStarts[row] = count;
                count += table.DroppablePages(row);
            }

            Memory.RowStarts[table.Rows] = Memory.Count = count;
            Span<int> index = Memory.Index;
            Span<int> bytes = Memory.Bytes;
            Span<byte> classes = Memory.Class;
            Span<bool> isFixed = Memory.Fixed;
            for (int row = 0, page = 0; row < table.Rows; row++)
            {
                int first = page;
                for (; page < Memory.RowStarts[row + 1]; page++)
                {
                    int entry = page - first;
                    index[page] = table.PageIndex(row, entry);
                    bytes[page] = table.FreedBy(row, entry);
                    classes[page] = _rungs.Of(table.PageClass(row, entry), mayDemote ? table.Targets(row, entry) : 0);
                    isFixed[page] = IsFixed(sequence, row, entry);
                }
            }
        }
    }

    private KvPages PagesOf(KvSequence sequence, long step)
    {
        KvStatistics needs = _cache.Needs;
        bool squares = needs.Has(KvStatistics.Queries);
        return new KvPages(_cache.Geometry, sequence.Length, Memory.RowStarts, Memory.Index)
        {
            Step = step,
            Samples = sequence.Scores?.Samples ?? 0,
            Bytes = Memory.Bytes,
            Class = Memory.Class,
            Fixed = Memory.Fixed,
            Ladder = _rungs.Ladder,
            SegmentStarts = sequence.SegmentStarts,
            Mass = Memory.Scores(TableMap.ScoreMass),
            Peak = Memory.Scores(TableMap.ScorePeak),
            LastMass = Memory.Scores(TableMap.ScoreLast),
            WindowMass = Memory.Scores(TableMap.ScoreWindow),
            LastUsed = PlanMemory.HasScores(needs) ? Memory.Score(TableMap.ScoreLastUsed) : default,
            Uses = PlanMemory.HasScores(needs) ? Memory.Score(TableMap.ScoreUses) : default,
            KeySquare = squares ? Memory.Scores(TableMap.ScoreKeySquare) : default,
            ValueSquare = squares ? Memory.Scores(TableMap.ScoreValueSquare) : default,
            QuerySquare = squares ? Memory.QuerySquare : default,
            OutputSquare = squares ? Memory.OutputSquare : default,
            KeyMean = needs.Has(KvStatistics.KeyMeans) ? Memory.KeyMeans : default,
            FutureQueryMean = needs.Has(KvStatistics.FutureQueries) ? Memory.FutureMean : default,
            FutureQueryVariance = needs.Has(KvStatistics.FutureQueries) ? Memory.FutureVariance : default,
        };
    }

    private void ReadScores(KvSequence sequence)
    {
        if (!PlanMemory.HasScores(_policy.Needs))
        {
            return;
        }

        PageTable table = sequence.Table;
        for (int row = 0; row < table.Rows; row++)
        {
            (int first, int end) = (Memory.RowStarts[row], Memory.RowStarts[row + 1]);
            if (first == end)
            {
                continue;
            }

            Span<int> words = Memory.RowScores[..((Memory.Index[end - 1] + 1) * TableMap.ScoreWords)];
            lock (_cache.DeviceGate)
            {
                _cache.Tier.Read(table.ScoreWord(row, 0), words);
            }

            for (int word = 0; word < TableMap.ScoreWords; word++)
            {
                Span<int> column = Memory.Score(word);
                bool isNumber = word is TableMap.ScoreLastUsed or TableMap.ScoreUses;
                for (int page = first; page < end; page++)
                {
                    int bits = words[(Memory.Index[page] * TableMap.ScoreWords) + word];
                    column[page] = isNumber || float.IsFinite(BitConverter.Int32BitsToSingle(bits)) ? bits : 0;
                }
            }
        }

        if (_policy.Needs.Has(KvStatistics.Queries))
        {
            Squares.Complete(_cache.Geometry, Memory, sequence.Scores!.Moments!);
        }
    }

    private void ReadKeys(KvSequence sequence)
    {
        if (!_policy.Needs.Has(KvStatistics.KeyMeans))
        {
            return;
        }

        int width = _cache.Geometry.KeyWidth;
        Span<float> means = Memory.KeyMeans;
        for (int row = 0; row < sequence.Table.Rows; row++)
        {
            for (int page = Memory.RowStarts[row]; page < Memory.RowStarts[row + 1]; page++)
            {
                Span<float> mean = means.Slice(page * width, width);
                if (!sequence.ReadDigest(row, page - Memory.RowStarts[row], mean, deviation: []))
                {
                    // Kept in full precision: nothing wrote one.
                    mean.Clear();
                }
            }
        }
    }

    private long Drop(KvSequence sequence)
    {
        long freed = 0;
        Span<bool> drops = Memory.Fixed;
        ReadOnlySpan<KvTransition> plan = Memory.Plan;
        for (int page = 0; page < Memory.Count; page++)
        {
            // Whatever the policy says, what is fixed stays.
            drops[page] = !drops[page] && plan[page].Kind == KvTransitionKind.Drop;
            freed += drops[page] ? Memory.Bytes[page] : 0;
        }

        for (int row = 0; row < sequence.Table.Rows; row++)
        {
            Span<bool> ofRow = drops[Memory.RowStarts[row]..Memory.RowStarts[row + 1]];
            if (_merging is { } merging && ofRow.Contains(true))
            {
                merging.Drop(sequence, row, ofRow, _isNeighbour);
            }
            else
            {
                sequence.Drop(row, ofRow);
            }
        }

        return freed;
    }

    // What stays as it is, for nobody else, and may change.
    private bool IsNeighbour(KvSequence sequence, int row, int entry)
    {
        int page = Memory.RowStarts[row] + entry;
        return Memory.Plan[page].Kind == KvTransitionKind.Keep && Memory.Bytes[page] > 0 && !IsFixed(sequence, row, entry);
    }

    private long Demote(KvSequence sequence)
    {
        Span<PageDemotion> batch = stackalloc PageDemotion[DemotedAtOnce];
        int pending = 0;
        long freed = 0;
        for (int row = 0; row < sequence.Table.Rows; row++)
        {
            for (int page = Memory.RowStarts[row]; page < Memory.RowStarts[row + 1]; page++)
            {
                KvTransition to = Memory.Plan[page];
                if (to.Kind == KvTransitionKind.Demote && sequence.MayDemote(row, Memory.Index[page], to.Class)
                    && !IsFixed(sequence, row, sequence.Table.EntryOf(row, Memory.Index[page])))
                {
                    batch[pending++] = new PageDemotion(row, Memory.Index[page], to.Class);
                    if (pending == batch.Length)
                    {
                        freed += sequence.DemotePlanned(batch);
                        pending = 0;
                    }
                }
            }
        }

        return freed + sequence.DemotePlanned(batch[..pending]);
    }
}
