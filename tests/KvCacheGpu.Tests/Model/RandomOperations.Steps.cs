using KvCacheGpu.Kernels;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Tests;

/// <content>Steps, alone and in batches, and what they must leave behind.</content>
internal sealed partial class RandomOperations
{
    private enum End
    {
        Commit,
        Abandon,
        NonFinite,
    }

    private string Step(End end)
    {
        ModelSequence model = Any();
        int[] ids = NewIds(1 + _random.Next(_random.Next(4) == 0 ? 20 : 3));
        Trace before = TraceOf([model]);
        bool fits = model.Sequence.CanAppend(ids.Length);
        bool begun = model.Sequence.TryBegin(ids, out KvStep step);
        Assert.True(fits || !begun, "what fits can begin");
        Assert.True(begun || _policy is not null || !fits, "what begins fitted");
        return begun ? Finish(step, [model], [ids], end, before) : Refused([model], before, () => model.Sequence.Begin(ids));
    }

    private string Batch()
    {
        ModelSequence[] models = [.. _live.OrderBy(_ => _random.Next()).Take(1 + _random.Next(3))];
        int[][] ids = [.. models.Select(_ => NewIds(1 + _random.Next(6)))];
        int[] all = [.. ids.SelectMany(x => x)];
        int[] counts = [.. ids.Select(x => x.Length)];
        KvSequence[] sequences = [.. models.Select(m => m.Sequence)];
        Trace before = TraceOf(models);
        bool fits = _cache.CanAppend(sequences, counts);
        bool begun = _cache.TryBegin(sequences, all, counts, out KvStep step);
        Assert.True(fits || !begun, "what fits can begin");
        Assert.True(begun || _policy is not null || !fits, "what begins fitted");
        End end = _random.Next(4) == 0 ? End.Abandon : End.Commit;
        return "batch " + (begun ? Finish(step, models, ids, end, before) : Refused(models, before, () => _cache.Begin(sequences, all, counts)));
    }

    private string Refused(ModelSequence[] models, Trace before, Func<KvStep> begin)
    {
        Assert.Equal("E001", Assert.Throws<KvOutOfMemoryException>(() => begin()).Code);
        AssertNoTrace(before, models);
        return "refused";
    }

    private string Finish(KvStep step, ModelSequence[] models, int[][] ids, End end, Trace before)
    {
        int[] all = [.. ids.SelectMany(x => x)];
        int stop = end == End.Abandon ? _random.Next(_geometry.Layers + 1) : _geometry.Layers;
        bool attends = _random.Next(6) == 0;
        for (int layer = 0; layer < stop; layer++)
        {
            float[] keys = TokenContent.Keys(_geometry, layer, all);
            float[] values = Values(layer, all);
            if (end == End.NonFinite && !_run.Keeps && layer == _geometry.Layers - 1)
            {
                values[_random.Next(values.Length)] = float.NaN;
            }

            step.Append(layer, keys, values);
            // NaN beside NaN: there is nothing to compare.
            if (attends && !_run.Keeps && end != End.NonFinite)
            {
                CheckAttention(step, layer, models, ids, all);
            }
        }

        end = end == End.NonFinite && _run.Keeps ? End.Commit : end;
        switch (end)
        {
            case End.Commit:
                step.Commit();
                for (int i = 0; i < models.Length; i++)
                {
                    models[i].Append(ids[i], _policy, IsKept);
                }

                models.ToList().ForEach(CheckShape);
                return "step";
            case End.NonFinite:
                Assert.Equal(_geometry.Layers - 1, Assert.Throws<KvNonFiniteException>(step.Commit).Layer);
                AssertNoTrace(before, models);
                return "non-finite";
            default:
                step.Dispose();
                AssertNoTrace(before, models);
                return "abandon";
        }
    }

    private void CheckAttention(KvStep step, int layer, ModelSequence[] models, int[][] ids, int[] all)
    {
        int rowWidth = _geometry.QueryHeads * _geometry.ValueWidth;
        var output = new float[all.Length * rowWidth];
        float[] queries = TokenContent.Queries(_geometry, layer, all);
        step.Attend(layer, queries, output);
        int token = 0;
        for (int s = 0; s < models.Length; s++)
        {
            int last = token + ids[s].Length - 1;
            int head = _random.Next(_geometry.QueryHeads);
            double[] expected = Oracle(models[s].Sequence.State.Table, layer, head, models[s].Tokens.Count + ids[s].Length - 1, queries.AsSpan(
                ((last * _geometry.QueryHeads) + head) * _geometry.KeyWidth, _geometry.KeyWidth));
            double error = 0;
            double norm = 0;
            for (int e = 0; e < expected.Length; e++)
            {
                error += Math.Pow(expected[e] - output[(last * rowWidth) + (head * _geometry.ValueWidth) + e], 2);
                norm += expected[e] * expected[e];
            }

            Assert.True(Math.Sqrt(error) <= 1e-5 * Math.Max(Math.Sqrt(norm), 0.1), $"attention is off by {Math.Sqrt(error)} of {Math.Sqrt(norm)}");
            token += ids[s].Length;
        }
    }

    private double[] Oracle(PageTable table, int layer, int queryHead, int position, ReadOnlySpan<float> query)
    {
        int row = (layer * _geometry.KvHeads) + (queryHead / _geometry.GroupSize);
        int slotBytes = _cache.State.Tier.Shape.Classes.Max(c => c.Bytes);
        var pages = new List<PlacedPage>();
        for (int entry = 0; entry < table.Count(row); entry++)
        {
            PageLayout layout = _cache.State.Tier.Shape.Classes[table.PageClass(row, entry)];
            var words = new int[layout.Bytes / sizeof(int)];
            _cache.State.Tier.Read((long)table.Slot(row, entry) * PageLayout.UnitWords, words);
            var bytes = new byte[layout.Bytes];
            Buffer.BlockCopy(words, 0, bytes, 0, bytes.Length);
            int index = table.PageIndex(row, entry);
            int tokens = Math.Min(P, position + 1 - (index * P));
            pages.Add(new PlacedPage(index, new DecodedPage(bytes, layout, _geometry, _cache.State.Options.RotationSeed, tokens)));
        }

        return AttentionOracle.Attend(query, position, pages, _geometry).Output;
    }

    private int[] NewIds(int count)
    {
        int first = _nextId;
        _nextId += count;
        return [.. Enumerable.Range(first, count)];
    }

    private Trace TraceOf(ModelSequence[] models) =>
        new(_cache.AllocatedBytes, _cache.GetPageCounts(), _cache.State.Pool.FreeSlabs, [.. models.SelectMany(RowsOf)], [.. models.Select(ContentOf)]);

    private void AssertNoTrace(Trace before, ModelSequence[] models)
    {
        Trace after = TraceOf(models);
        Assert.Equal((before.Bytes, before.Pages, before.FreeSlabs), (after.Bytes, after.Pages, after.FreeSlabs));
        Assert.True(before.Entries.AsSpan().SequenceEqual(after.Entries), "rows as before");
        for (int i = 0; i < models.Length; i++)
        {
            Assert.True(before.Content[i].AsSpan().SequenceEqual(after.Content[i]), "content as before, bit for bit");
            CheckShape(models[i]);
        }
    }

    private float[] ContentOf(ModelSequence model)
    {
        (float[] keys, float[] values) = model.Sequence.Materialized(_geometry.Layers - 1);
        return [.. keys, .. values];
    }

    private static IEnumerable<int> RowsOf(ModelSequence model)
    {
        PageTable table = model.Sequence.State.Table;
        for (int row = 0; row < table.Rows; row++)
        {
            yield return table.Count(row);
            for (int entry = 0; entry < table.Count(row); entry++)
            {
                yield return table.Slot(row, entry);
                yield return TableMap.Tag(table.PageClass(row, entry), table.PageIndex(row, entry));
            }
        }
    }

    private sealed record Trace(long Bytes, KvPageCounts Pages, int FreeSlabs, int[] Entries, float[][] Content);
}
