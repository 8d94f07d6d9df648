using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Asks the policy about one sequence and carries out what it says: shows it the sequence's pages and their scores, drops references, writes
/// pages anew. One per cache; sequences come one at a time, each held by who calls.
/// </summary>
internal sealed class Evictor : IDisposable
{
    private readonly CacheState _cache;
    private readonly KvPolicy _policy;
    private readonly Demoter _demoter;
    private readonly PageMerging? _merging;
    private readonly Offloader? _offloader;
    private readonly Func<SequenceState, int, int, bool> _isNeighbour;

    public Evictor(CacheState cache, PlanMemory memory)
    {
        (_cache, _policy, Rungs, _demoter) = (cache, cache.Options.Policy!, new PlanRungs(cache.Classes), new Demoter(cache));
        Memory = memory;
        _merging = cache.Options.MergePages ? new PageMerging(cache, Memory) : null;
        _offloader = cache.Offload is null ? null : new Offloader(cache, cache.Offload);
        _isNeighbour = IsNeighbour;
    }

    /// <summary>The memory that plans are made in.</summary>
    public PlanMemory Memory { get; }

    /// <summary>What <see cref="PlanMemory.Class"/> names.</summary>
    public PlanRungs Rungs { get; }

    private long OffloadBytes => _cache.Offload?.Room.FreeBytes ?? 0;

    public void Dispose() => Memory.Dispose();

    /// <summary>Bytes that a sequence could give.</summary>
    public long Evictable(SequenceState sequence)
    {
        PageTable table = sequence.Table;
        long bytes = 0;
        using (_cache.Pool.Gate.Enter())
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
    /// <param name="mayDemote">True if pages may shrink; else they stay or go.</param>
    /// <returns>Bytes freed.</returns>
    public long Evict(SequenceState sequence, long bytesToFree, long step, bool mayDemote = true)
    {
        long freed;
        long began = Durations.Begin(Durations.Plan);
        using (Memory.Gate.Enter())
        {
            Gather(sequence, mayDemote);
            _policy.Plan(Memory.View(_cache.Geometry, Rungs.Ladder, sequence, step, OffloadBytes), bytesToFree, Memory.Plan, sequence.Scores?.State);
            freed = CarryOut(sequence);
        }

        Durations.End(Durations.Plan, began, _cache.Counts.Own);
        CacheEvents.Log.NoteEviction(_cache.Counts.Name, sequence.Id, freed);
        return freed;
    }

    /// <summary>Fills the memory with a sequence's pages, all that is known of them, and a plan that keeps them. The caller is inside of the memory's gate.</summary>
    /// <param name="sequence">Held by the caller.</param>
    /// <param name="mayDemote">True if pages may shrink.</param>
    public void Gather(SequenceState sequence, bool mayDemote)
    {
        List(sequence, mayDemote);
        ReadScores(sequence);
        ReadKeys(sequence);
        sequence.Scores?.Future?.Foresee(sequence.Length, Memory.FutureMean, Memory.FutureVariance);
        Memory.Plan.Clear();
    }

    /// <summary>Carries out the plan in the memory, of the sequence that was gathered. The caller is inside of the memory's gate.</summary>
    /// <returns>Bytes freed.</returns>
    public long CarryOut(SequenceState sequence) => Drop(sequence) + Demote(sequence);

    /// <summary>Plans which pages to leave out of a sequence that is being restored: its tables hold scores, and no pages yet.</summary>
    /// <param name="sequence">The sequence, held, of its length.</param>
    /// <param name="rowStarts">[rows + 1] entries of row r are rowStarts[r] .. rowStarts[r + 1] - 1.</param>
    /// <param name="pageIndexes">[entries] page indexes, ascending within a row.</param>
    /// <param name="bytes">[entries] bytes that leaving an entry out frees.</param>
    /// <param name="bytesToFree">Bytes to free.</param>
    /// <returns>[entries] true if the entry goes.</returns>
    public bool[] PlanRestored(SequenceState sequence, int[] rowStarts, int[] pageIndexes, int[] bytes, long bytesToFree)
    {
        using (Memory.Gate.Enter())
        {
            int[] entries = GatherRestored(sequence, rowStarts, pageIndexes, bytes);
            _policy.Plan(Memory.View(_cache.Geometry, Rungs.Ladder, sequence, _cache.Clock.NextStep, OffloadBytes), bytesToFree, Memory.Plan, sequence.Scores?.State);
            return Dropped(entries, pageIndexes.Length);
        }
    }

    /// <summary>Fills the memory with the pages of a sequence that is being restored, and a plan that keeps them. The caller is inside of the memory's gate.</summary>
    /// <returns>The entries that it holds; the others cannot go.</returns>
    /// <inheritdoc cref="PlanRestored" path="/param"/>
    public int[] GatherRestored(SequenceState sequence, int[] rowStarts, int[] pageIndexes, int[] bytes)
    {
        // As PageTable.DroppablePages.
        int end = _cache.Classes.Seals.FirstUndroppable(sequence.Length);
        int[] entries = [.. Enumerable.Range(0, pageIndexes.Length).Where(entry => pageIndexes[entry] < end)];
        Rungs.Clear();
        Memory.Count = entries.Length;
        int row = 0;
        for (int page = 0; page < entries.Length; page++)
        {
            int entry = entries[page];
            for (; rowStarts[row] <= entry; row++)
            {
                Memory.RowStarts[row] = page;
            }

            Memory.Index[page] = pageIndexes[entry];
            Memory.Bytes[page] = bytes[entry];
            Memory.Class[page] = KernelShape.Open;
            Memory.Fixed[page] = IsFixedSpan(sequence, pageIndexes[entry], pageIndexes[entry]);
        }

        Memory.RowStarts[row..(sequence.Table.Rows + 1)].Fill(entries.Length);
        ReadScores(sequence);
        Memory.Plan.Clear();
        return entries;
    }

    /// <summary>What the plan in the memory drops of a sequence that is being restored.</summary>
    /// <param name="entries">The entries that the memory holds.</param>
    /// <param name="count">All entries of the sequence.</param>
    /// <returns>[count] true if the entry goes.</returns>
    public bool[] Dropped(int[] entries, int count)
    {
        bool[] drops = new bool[count];
        for (int page = 0; page < entries.Length; page++)
        {
            drops[entries[page]] = !Memory.Fixed[page] && Memory.Plan[page].Kind == KvTransitionKind.Drop;
        }

        return drops;
    }

    private bool IsFixed(SequenceState sequence, int row, int entry) =>
        IsFixedSpan(sequence, sequence.Table.FirstPageOf(row, entry), sequence.Table.PageIndex(row, entry));

    private bool IsFixedSpan(SequenceState sequence, int firstPage, int lastPage)
    {
        long start = (long)firstPage * _cache.Geometry.PageTokens;
        long end = ((long)lastPage + 1) * _cache.Geometry.PageTokens;
        return start < _policy.SinkTokens || end > (long)sequence.Length - _policy.WindowTokens || sequence.Pins.Touches(start, end);
    }

    private void List(SequenceState sequence, bool mayDemote)
    {
        PageTable table = sequence.Table;
        Rungs.Clear();
        using (_cache.Pool.Gate.Enter())
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
                    classes[page] = Rungs.Of(table.PageClass(row, entry), mayDemote ? table.Targets(row, entry) : 0);
                    isFixed[page] = IsFixed(sequence, row, entry);
                }
            }
        }
    }

    private void ReadScores(SequenceState sequence)
    {
        if (!_policy.Needs.HaveScores())
        {
            return;
        }

        PageTable table = sequence.Table;
        for (int leaf = 0; leaf < table.Leaves; leaf++)
        {
            using (_cache.DeviceGate.Enter())
            {
                _cache.Tier.Read(_cache.Tier.LeafScoresWord(table.Sequence, leaf), Memory.LeafScores);
            }

            for (int row = 0; row < table.Rows; row++)
            {
                ReadScores(row, leaf);
            }
        }

        if (_policy.Needs.Has(KvStatistics.Queries))
        {
            Squares.Complete(_cache.Geometry, Memory, sequence.Scores!.Moments!);
        }
    }

    // Of a row's pages, the scores of those that a leaf has, which was read.
    private void ReadScores(int row, int leaf)
    {
        TableMap map = _cache.Tier.Map;
        ReadOnlySpan<int> index = Memory.Index[..Memory.RowStarts[row + 1]];
        ReadOnlySpan<int> scores = Memory.LeafScores;
        int first = FirstFrom(index, Memory.RowStarts[row], leaf * map.LeafPages);
        int end = FirstFrom(index, first, (leaf + 1) * map.LeafPages);
        for (int page = first; page < end; page++)
        {
            Memory.TakeScores(page, scores.Slice(map.ScoresInLeaf(row, index[page]) - map.LeafScores, TableMap.ScoreWords));
        }
    }

    // Page indexes ascend within a row.
    private static int FirstFrom(ReadOnlySpan<int> index, int start, int pageIndex)
    {
        int found = index[start..].BinarySearch(pageIndex);
        return start + (found < 0 ? ~found : found);
    }

    private void ReadKeys(SequenceState sequence)
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
                if (!_cache.Reader.ReadDigest(sequence.Table, _cache.ScalesOf(sequence.Table), row, page - Memory.RowStarts[row], mean, deviation: []))
                {
                    // Kept in full precision: nothing wrote one.
                    mean.Clear();
                }
            }
        }
    }

    private long Drop(SequenceState sequence)
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
            if (ofRow.Contains(true))
            {
                Drop(sequence, row, ofRow);
            }
        }

        _offloader?.Finish();
        return freed;
    }

    // Drops a row's flagged first entries, after those were merged that can be.
    private void Drop(SequenceState sequence, int row, Span<bool> drops)
    {
        DeadTokens? dead = sequence.Table.Dead;
        using var live = new Pooled<int>(dead?.WordsPerRow ?? 0);
        if (_merging is { } merging)
        {
            live.Span.Clear();
            merging.Merge(sequence, row, drops, _isNeighbour, live.Span);
        }

        int kept = _offloader?.Offload(sequence, row, drops) ?? 0;
        using (_cache.Pool.Gate.Enter())
        {
            _cache.Counts.CountEvicted(drops.Count(true) - kept);

            // Blocks first: the prefix index answers for all pages of a block that a sequence holds.
            for (int entry = drops.Length - 1; entry >= 0 && sequence.Chain is { } chain; entry--)
            {
                if (drops[entry])
                {
                    chain.Drop(sequence.Table.PageIndex(row, entry));
                }
            }

            sequence.Table.Drop(row, drops);
        }

        dead?.Revive(row, live.Span);
    }

    // True if the page stays as it is, nobody else has it, and it may be written anew.
    private bool IsNeighbour(SequenceState sequence, int row, int entry)
    {
        int page = Memory.RowStarts[row] + entry;
        return Memory.Plan[page].Kind == KvTransitionKind.Keep && Memory.Bytes[page] > 0 && !IsFixed(sequence, row, entry);
    }

    private long Demote(SequenceState sequence)
    {
        Span<PageChange> batch = stackalloc PageChange[Demoter.MostAtOnce];
        int pending = 0;
        long freed = 0;
        for (int row = 0; row < sequence.Table.Rows; row++)
        {
            for (int page = Memory.RowStarts[row]; page < Memory.RowStarts[row + 1]; page++)
            {
                KvTransition to = Memory.Plan[page];
                if (to.Kind == KvTransitionKind.Demote && sequence.Table.EntryOf(row, Memory.Index[page]) is >= 0 and int entry
                    && sequence.Table.MayDemote(row, entry, to.Class) && !IsFixed(sequence, row, entry))
                {
                    batch[pending++] = new PageChange(row, Memory.Index[page], to.Class);
                    if (pending == batch.Length)
                    {
                        freed += _demoter.DemotePlanned(sequence, batch);
                        pending = 0;
                    }
                }
            }
        }

        return freed + _demoter.DemotePlanned(sequence, batch[..pending]);
    }
}
