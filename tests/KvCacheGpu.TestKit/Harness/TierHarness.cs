using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>Output <c>[tokens][query heads][value width]</c> and log-sum-exp <c>[tokens][query heads]</c> of a launch.</summary>
public sealed record Attention(float[] Output, float[] LogSumExp);

/// <summary>
/// The part of an engine that a tier needs, in its simplest form: it takes slots, keeps the tables, runs ragged steps, seals pages one page
/// late, drops pages.
/// </summary>
public sealed unsafe class TierHarness : IDisposable
{
    private readonly KernelBatch _batch;
    private readonly SlotPool _pool;
    private readonly List<HarnessSequence> _sequences = [];
    private readonly KvKeyScales?[] _scales = new KvKeyScales?[KernelTier.KeyTables];
    private (HarnessSequence Sequence, int Tokens)[] _parts = [];

    /// <summary>Builds a tier with room for <paramref name="slots"/> pages.</summary>
    public TierHarness(Func<KernelShape, long, KernelTier> create, KernelShape shape, int slots, int maxTokens = 1024, int seed = 1)
    {
        ArgumentNullException.ThrowIfNull(create);
        Shape = shape;
        Slots = slots + (shape.Sequences * new TableMap(shape).Leaves);
        long units = new TableMap(shape).FirstPageUnit + ((long)Slots * SlotPool.Units(shape));
        Tier = create(shape, units * PageLayout.UnitBytes);
        _pool = new SlotPool(Tier, Slots, seed);
        int sums = (Tier.Map.FirstPageUnit * PageLayout.UnitWords) - Tier.Map.LogSumExp;
        Tier.Load(Tier.Map.LogSumExp, [.. Enumerable.Repeat(-1, sums)]);
        _batch = Tier.CreateBatch(shape.Sequences, maxTokens);
    }

    /// <summary>Geometry, formats and table sizes of the tier.</summary>
    public KernelShape Shape { get; }

    /// <summary>The tier under test.</summary>
    public KernelTier Tier { get; }

    /// <summary>Slots of pages and of all leaves that there may be.</summary>
    public int Slots { get; }

    /// <summary>Working memory of the batch, in bytes.</summary>
    public long ScratchBytes => _batch.ScratchBytes;

    /// <summary>The launch of the step under way.</summary>
    public RaggedSequence[] Ragged { get; private set; } = [];

    /// <summary>Adds an empty sequence that will append the keys and values of <paramref name="data"/>, and attend its queries.</summary>
    public HarnessSequence Add(SequenceData data)
    {
        int slot = Enumerable.Range(0, _sequences.Count + 1).First(s => _sequences.TrueForAll(other => other.Slot != s));
        var sequence = new HarnessSequence(slot, data, Shape.Geometry);
        _sequences.Add(sequence);
        return sequence;
    }

    /// <summary>Gives up a sequence, with its pages, leaves and slot in the tables.</summary>
    public void Remove(HarnessSequence sequence)
    {
        foreach ((int layer, int head) in sequence.LayerHeads)
        {
            sequence.Rows[layer, head].ForEach(entry => _pool.Release(entry.Slot));
            sequence.Rows[layer, head].Clear();
            Tier.WriteCount(sequence.Slot, Tier.Map.Row(layer, head), 0);
        }

        for (int leaf = 0; leaf < sequence.Leaves.Count; leaf++)
        {
            Tier.CloseLeaf(sequence.Slot, leaf);
            _pool.Release(sequence.Leaves[leaf]);
        }

        sequence.Leaves.Clear();
        _sequences.Remove(sequence);
    }

    /// <summary>Closes a leaf and opens it in another slot, with what it held.</summary>
    public void MoveLeaf(HarnessSequence sequence, int leaf)
    {
        var words = new int[(Tier.Map.LeafUnits * PageLayout.UnitWords) - Tier.Map.LeafStats];
        Tier.Read(Tier.LeafWord(sequence.Slot, leaf) + Tier.Map.LeafStats, words);
        int slot = _pool.Take();
        Tier.CloseLeaf(sequence.Slot, leaf);
        _pool.Release(sequence.Leaves[leaf]);
        Tier.OpenLeaf(sequence.Slot, leaf, slot);
        sequence.Leaves[leaf] = slot;
        Tier.Load(Tier.LeafWord(sequence.Slot, leaf) + Tier.Map.LeafStats, words);
        WriteTables(sequence);
    }

    /// <summary>Takes pages for a step's tokens and begins it; with <paramref name="reversed"/>, tensors hold the parts last first.</summary>
    public void Begin(bool reversed, params (HarnessSequence Sequence, int Tokens)[] parts)
    {
        Ragged = new RaggedSequence[parts.Length];
        int token = 0;
        _parts = reversed ? [.. parts.AsEnumerable().Reverse()] : parts;
        foreach ((HarnessSequence sequence, int tokens) in _parts)
        {
            sequence.Length += tokens;
            Ragged[Array.FindIndex(parts, p => p.Sequence == sequence)] = new RaggedSequence(sequence.Slot, token, tokens, sequence.Length, KeyTable: sequence.KeyTable);
            token += tokens;
            TakePages(sequence);
        }

        _batch.Begin(Ragged);
    }

    /// <summary>Begins a step whose tensors hold the parts in order.</summary>
    public void Begin(params (HarnessSequence Sequence, int Tokens)[] parts) => Begin(false, parts);

    /// <summary>Appends the step's tokens to a layer.</summary>
    public void Append(int layer) => Append(layer, Gather(d => d.Keys[layer], KeyFloats), Gather(d => d.Values[layer], ValueFloats));

    /// <summary>Appends other tensors than the sequences' own.</summary>
    public void Append(int layer, KvTensor keys, KvTensor values) => _batch.Append(layer, keys, values);

    /// <summary>The step's queries, <c>[tokens][query heads][key width]</c>.</summary>
    public float[] Queries(int layer) => Gather(d => d.Queries[layer], Shape.Geometry.QueryHeads * Shape.Geometry.KeyWidth);

    /// <summary>The step's keys, <c>[tokens][KV heads][key width]</c>.</summary>
    public float[] Keys(int layer) => Gather(d => d.Keys[layer], KeyFloats);

    /// <summary>The step's values, <c>[tokens][KV heads][value width]</c>.</summary>
    public float[] Values(int layer) => Gather(d => d.Values[layer], ValueFloats);

    /// <summary>Attends the step's queries.</summary>
    public Attention Attend(int layer, int window = 0) => Attend(layer, Queries(layer), window);

    /// <summary>Attends other queries than the sequences' own.</summary>
    public Attention Attend(int layer, KvTensor queries, int window = 0)
    {
        int count = _parts.Sum(p => p.Tokens) * Shape.Geometry.QueryHeads;
        var result = new Attention(new float[count * Shape.Geometry.ValueWidth], new float[count]);
        Array.Fill(result.Output, float.NaN);
        Array.Fill(result.LogSumExp, float.NaN);
        _batch.Attend(layer, queries, KvOutput.FromHost(result.Output, result.LogSumExp), window);
        return result;
    }

    /// <summary>Attends other queries, to a target of the test's own.</summary>
    public void AttendTo(int layer, KvTensor queries, KvOutput output) => _batch.Attend(layer, queries, output);

    /// <summary>Begins a launch that only reads, with queries at the positions of the last tokens.</summary>
    public void BeginRead(bool keepsStatistics, params (HarnessSequence Sequence, int Tokens)[] parts)
    {
        _parts = parts;
        Ragged = new RaggedSequence[parts.Length];
        for (int i = 0, token = 0; i < parts.Length; token += parts[i++].Tokens)
        {
            Ragged[i] = new RaggedSequence(parts[i].Sequence.Slot, token, parts[i].Tokens, parts[i].Sequence.Length, keepsStatistics, parts[i].Sequence.KeyTable);
        }

        _batch.Begin(Ragged);
    }

    /// <summary>Observes the step's last queries, or others.</summary>
    public void Observe(int layer, int last, float[]? queries = null) => _batch.Observe(layer, queries ?? Queries(layer), last);

    /// <summary>Scores the step's pages.</summary>
    public void Score(float decay, int step) => _batch.Score(decay, step);

    /// <summary>Ends the step, and returns the element that was refused, if any.</summary>
    public NonFinite? End() => _batch.End();

    /// <summary>Appends <paramref name="tokens"/> tokens to every layer without attending, and seals.</summary>
    public void Fill(HarnessSequence sequence, int tokens)
    {
        if (tokens > 0)
        {
            Begin((sequence, tokens));
            for (int layer = 0; layer < Shape.Geometry.Layers; layer++)
            {
                Append(layer);
            }

            End();
            Seal(sequence);
        }
    }

    /// <summary>
    /// Seals what the lag allows, page i once the sequence is (i + 2) * P long: each layer in its class, in place where the layout
    /// stays. A page that the class cannot hold stays open for good.
    /// </summary>
    public void Seal(HarnessSequence sequence)
    {
        var due = new List<(List<PageEntry> Row, int Entry, PageMove Move)>();
        foreach ((int layer, int head) in sequence.LayerHeads)
        {
            List<PageEntry> row = sequence.Rows[layer, head];
            int target = SealedClass(layer);
            for (int i = 0; i < row.Count; i++)
            {
                PageEntry entry = row[i];
                bool isFull = (entry.PageIndex + 2) * Shape.Geometry.PageTokens <= sequence.Length;
                if (entry.PageClass == KernelShape.Open && isFull && !sequence.Kept.Contains(entry.Slot))
                {
                    int slot = Shape.Classes[KernelShape.Open] == Shape.Classes[target] ? entry.Slot : _pool.Take();
                    due.Add((row, i, new PageMove(entry.Slot, KernelShape.Open, slot, target, Shape.Geometry.PageTokens, SquaresOf(sequence, layer, head, entry.PageIndex), KeyRow(sequence, layer, head))));
                }
            }
        }

        var kept = new bool[due.Count];
        Tier.Transcode([.. due.Select(d => d.Move)], kept);
        for (int i = 0; i < kept.Length; i++)
        {
            (List<PageEntry> row, int entry, PageMove move) = due[i];
            if (kept[i])
            {
                sequence.Kept.Add(move.SourceSlot);
            }
            else
            {
                row[entry] = row[entry] with { PageClass = move.TargetClass, Slot = move.TargetSlot };
            }

            if (move.SourceSlot != move.TargetSlot)
            {
                _pool.Release(kept[i] ? move.TargetSlot : move.SourceSlot);
            }
        }

        WriteTables(sequence);
    }

    /// <summary>Writes a page in another class, and swaps it in.</summary>
    public void Demote(HarnessSequence sequence, int layer, int head, int entry, int pageClass)
    {
        PageEntry old = sequence.Rows[layer, head][entry];
        int slot = _pool.Take();
        Tier.Transcode([new PageMove(old.Slot, old.PageClass, slot, pageClass, Shape.Geometry.PageTokens, KeyRow: KeyRow(sequence, layer, head))]);
        Tier.Synchronize();
        sequence.Rows[layer, head][entry] = old with { Slot = slot, PageClass = pageClass };
        _pool.Release(old.Slot);
        WriteTables(sequence);
    }

    /// <summary>The class in which a layer's pages are sealed: the first of its own.</summary>
    public int SealedClass(int layer) =>
        Enumerable.Range(KernelShape.Sealed, Shape.Classes.Count - 1).First(c => ((Shape.LayerClasses[layer] >> c) & 1) != 0);

    /// <summary>Drops a page from every row, and closes the gaps.</summary>
    public void Drop(HarnessSequence sequence, int pageIndex)
    {
        foreach (List<PageEntry> row in sequence.Rows)
        {
            int at = row.FindIndex(entry => entry.PageIndex == pageIndex);
            _pool.Release(row[at].Slot);
            row.RemoveAt(at);
        }

        WriteTables(sequence);
    }

    /// <summary>Takes a slot for a test's own use.</summary>
    public int TakeSlot() => _pool.Take();

    /// <summary>The bytes of a slot of a class.</summary>
    public byte[] ReadBytes(int slot, int pageClass)
    {
        var words = new int[Shape.Classes[pageClass].Units * PageLayout.UnitWords];
        Tier.Read((long)slot * PageLayout.UnitWords, words);
        return MemoryMarshal.AsBytes<int>(words).ToArray();
    }

    /// <summary>Sets a table of key scales.</summary>
    public void SetKeyScales(int table, KvKeyScales scales) => Tier.SetKeyScales(table, _scales[table] = scales);

    /// <summary>The row whose key scales a sequence's T pages have.</summary>
    public int KeyRow(HarnessSequence sequence, int layer, int head) => Tier.KeyRow(sequence.KeyTable, Tier.Map.Row(layer, head));

    /// <summary>The exponents of a row of <see cref="KeyRow"/>.</summary>
    public byte[] Exponents(int keyRow)
    {
        (int table, int row) = Math.DivRem(keyRow, Shape.Geometry.Layers * Shape.Geometry.KvHeads);
        return (_scales[table] ?? KvKeyScales.None(Shape.Geometry)).Exponents.Slice(row * Shape.Geometry.KeyWidth, Shape.Geometry.KeyWidth).ToArray();
    }

    /// <summary>Decodes the first <paramref name="tokens"/> tokens of a slot.</summary>
    public DecodedPage Decode(int slot, int pageClass, int tokens, int keyRow = 0) =>
        new(ReadBytes(slot, pageClass), Shape.Classes[pageClass], Shape.Geometry, Shape.RotationSeed, tokens, Exponents(keyRow));

    /// <summary>Decodes the resident pages of a row.</summary>
    public List<PlacedPage> DecodeRow(HarnessSequence sequence, int layer, int head) =>
        [.. sequence.Rows[layer, head].Select(entry => new PlacedPage(
            entry.PageIndex,
            Decode(
                entry.Slot,
                entry.PageClass,
                Math.Min(Shape.Geometry.PageTokens, sequence.Length - (entry.PageIndex * Shape.Geometry.PageTokens)),
                KeyRow(sequence, layer, head))))];

    /// <summary>A row's statistics as the tables hold them: [query head of the group][entry].</summary>
    public PageStatistic[][] ReadStatistics(HarnessSequence sequence, int layer, int head)
    {
        int row = Tier.Map.Row(layer, head);
        int group = Shape.Geometry.GroupSize;
        float[][] pages = [.. sequence.Rows[layer, head].Select(entry => ReadFloats(Tier.StatsWord(sequence.Slot, row, entry.PageIndex), group * 2))];
        return [.. Enumerable.Range(0, group).Select(g => pages.Select(words => new PageStatistic(words[2 * g], words[(2 * g) + 1])).ToArray())];
    }

    /// <summary>All that launches write into the tables: log-sum-exps, then statistics and scores of all open leaves.</summary>
    public int[] ReadMeasures()
    {
        var sums = new int[(Tier.Map.FirstPageUnit * PageLayout.UnitWords) - Tier.Map.LogSumExp];
        Tier.Read(Tier.Map.LogSumExp, sums);
        var words = new List<int>(sums);
        foreach (HarnessSequence sequence in _sequences)
        {
            for (int leaf = 0; leaf < sequence.Leaves.Count; leaf++)
            {
                var measures = new int[(Tier.Map.LeafUnits * PageLayout.UnitWords) - Tier.Map.LeafStats];
                Tier.Read(Tier.LeafWord(sequence.Slot, leaf) + Tier.Map.LeafStats, measures);
                words.AddRange(measures);
            }
        }

        return [.. words];
    }

    /// <summary>A page's scores as the tables hold them.</summary>
    public PageScores ReadScores(HarnessSequence sequence, int layer, int head, int page)
    {
        var words = new int[TableMap.ScoreWords];
        Tier.Read(ScoreWord(sequence, layer, head, page), words);
        return PageScores.Of(words);
    }

    /// <summary>First word of a page's scores.</summary>
    public long ScoreWord(HarnessSequence sequence, int layer, int head, int page) => Tier.ScoreWord(sequence.Slot, Tier.Map.Row(layer, head), page);

    /// <summary>A row's log-sum-exps as the tables hold them, by query head of the group.</summary>
    public float[] ReadLogSumExp(HarnessSequence sequence, int layer, int head) => ReadFloats(
        Tier.Map.LogSumExpWord(sequence.Slot, Tier.Map.Row(layer, head), 0), Shape.Geometry.GroupSize);

    /// <inheritdoc/>
    public void Dispose()
    {
        _batch.Dispose();
        Tier.Dispose();
    }

    private int KeyFloats => Shape.Geometry.KvHeads * Shape.Geometry.KeyWidth;

    private int ValueFloats => Shape.Geometry.KvHeads * Shape.Geometry.ValueWidth;

    private float[] ReadFloats(long word, int count)
    {
        var words = new int[count];
        Tier.Read(word, words);
        return MemoryMarshal.Cast<int, float>(words).ToArray();
    }

    private float[] Gather(Func<SequenceData, float[]> source, int row) =>
        [.. _parts.SelectMany(p => source(p.Sequence.Data).Skip((p.Sequence.Length - p.Tokens) * row).Take(p.Tokens * row))];

    // Where sealing leaves a page's mean squares: nowhere in tables without scores.
    private long SquaresOf(HarnessSequence sequence, int layer, int head, int page) => Shape.HasStatistics ? ScoreWord(sequence, layer, head, page) : 0;

    private void TakePages(HarnessSequence sequence)
    {
        foreach (List<PageEntry> row in sequence.Rows)
        {
            for (int next = row.Count == 0 ? 0 : row[^1].PageIndex + 1; next * Shape.Geometry.PageTokens < sequence.Length; next++)
            {
                row.Add(new PageEntry(next, KernelShape.Open, _pool.Take()));
            }
        }

        int pages = sequence.Rows.Cast<List<PageEntry>>().Max(row => row.Count == 0 ? 0 : row[^1].PageIndex + 1);
        while (sequence.Leaves.Count < Tier.Map.LeavesFor(pages))
        {
            int slot = _pool.Take();
            Tier.OpenLeaf(sequence.Slot, sequence.Leaves.Count, slot);
            sequence.Leaves.Add(slot);
        }

        WriteTables(sequence);
    }

    private void WriteTables(HarnessSequence sequence)
    {
        for (int layer = 0; layer < Shape.Geometry.Layers; layer++)
        {
            for (int head = 0; head < Shape.Geometry.KvHeads; head++)
            {
                int row = Tier.Map.Row(layer, head);
                List<PageEntry> entries = sequence.Rows[layer, head];
                Tier.WriteCount(sequence.Slot, row, entries.Count);
                for (int i = 0; i < entries.Count; i++)
                {
                    Tier.WriteEntry(sequence.Slot, row, i, entries[i].Slot, TableMap.Tag(entries[i].PageClass, entries[i].PageIndex));
                }
            }
        }
    }
}
