using System.Globalization;
using System.IO.Hashing;
using System.Runtime.InteropServices;
using System.Text;
using KvCacheGpu.Kernels;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Tests.Snapshots;

/// <summary>Caches, stores in memory, and all that a restore has to bring back.</summary>
internal static class LiveCaches
{
    public static SnapshotStore Store() => new MemoryStore(new MemoryDisk()).Store;

    public static KvRestored Restored(this KvCache cache, SnapshotStore store, string name = "s", params string[] ids) =>
        cache.LoadAsync(store, name, ids.Length == 0 ? null : ids).GetAwaiter().GetResult();

    public static SnapshotInfo Saved(this KvCache cache, SnapshotStore store, string name = "s", params KvSequence[] sequences) =>
        cache.SaveAsync(store, name, sequences.Length == 0 ? null : sequences).GetAwaiter().GetResult();

    /// <summary>Everything of sequences but where their pages lie: what they share, states of pages and bytes of their tokens, scores, standing.</summary>
    /// <param name="sequences">The sequences.</param>
    /// <param name="scores">True to look at scores.</param>
    public static string Transcript(IEnumerable<KvSequence> sequences, bool scores = true)
    {
        var text = new StringBuilder();
        var known = new Dictionary<int, int>();
        foreach (KvSequence sequence in sequences)
        {
            (KvCache cache, PageTable table) = (sequence.Cache, sequence.State.Table);
            text.Append(CultureInfo.InvariantCulture, $"sequence {sequence.Options.Tenant} {sequence.Options.Adapter} {sequence.Options.Salt}, first open {table.FirstOpen}\n");
            text.AppendJoin(' ', sequence.TokenIds.ToArray()).Append('\n');
            text.AppendJoin(' ', sequence.State.Pins.Spans).Append(" | ").AppendJoin(' ', sequence.State.SegmentStarts.ToArray()).Append('\n');
            text.AppendJoin(' ', sequence.Metadata.OrderBy(pair => pair.Key, StringComparer.Ordinal)).Append('\n');
            for (int row = 0; row < table.Rows; row++)
            {
                for (int entry = 0; entry < table.Count(row); entry++)
                {
                    int slot = table.Slot(row, entry);
                    known.TryAdd(slot, known.Count);
                    int[] words = new int[cache.State.Tier.Shape.Classes[table.PageClass(row, entry)].Bytes / sizeof(int)];
                    cache.State.Reader.Read(slot, words);
                    PageTokens.ClearBeyond(cache.State.Tier.Shape.Classes[table.PageClass(row, entry)], table.TokensIn(row, entry), !cache.State.Pool.IsSealed(slot), words);
                    int[] score = new int[TableMap.ScoreWords];
                    if (cache.State.Tier.Shape.HasStatistics)
                    {
                        cache.State.Tier.Read(table.ScoreWord(row, table.PageIndex(row, entry)), score);
                    }

                    text.Append(CultureInfo.InvariantCulture, $"{row} {table.PageIndex(row, entry)} class {table.PageClass(row, entry)} page {known[slot]} ");
                    text.Append(CultureInfo.InvariantCulture, $"{cache.State.Pool.ClassOf(slot)} {cache.State.Pool.IsSealed(slot)} {cache.State.Pool.EncodingsOf(slot).Packed} ");
                    text.Append(CultureInfo.InvariantCulture, $"{XxHash64.HashToUInt64(MemoryMarshal.AsBytes<int>(words)):x}");
                    text.Append(scores ? $" {string.Join(',', score)}\n" : "\n");
                }
            }
        }

        return text.ToString();
    }

    /// <summary>Every live sequence of a cache, and what it counts.</summary>
    public static string Everything(this KvCache cache, params KvSequence[] sequences) =>
        $"{cache.AllocatedBytes} bytes, {cache.GetPageCounts()}, {cache.State.Clock.NextStep} steps\n{Transcript(sequences)}";

    /// <summary>A parent, a fork that went on, a fork that was cut into a sealed page, one that only shares, and one apart; with standing.</summary>
    public static KvSequence[] Family(KvCache cache)
    {
        KvSequence parent = cache.CreateSequence(new KvSequenceOptions { Tenant = "t", Adapter = "a", Salt = "secret" });
        (parent.Name, parent.Metadata) = ("parent", new Dictionary<string, string> { ["turn"] = "17" });
        parent.FeedMany(1, 18, 7);
        parent.Pin(3, 6);
        parent.MarkSegment();
        KvSequence same = parent.Fork();
        KvSequence on = parent.Fork();
        on.FeedMany(50, 7, 3);
        KvSequence cut = on.Fork();
        cut.Truncate(6);
        parent.Decode(30);
        KvSequence apart = cache.CreateSequence();
        apart.FeedMany(70, 5);
        return [parent, same, on, cut, apart];
    }

    /// <summary>Steps on with every sequence, and what attention gives.</summary>
    public static float[] GoOn(IEnumerable<KvSequence> sequences, int steps) =>
        [.. Enumerable.Range(0, steps).SelectMany(step => sequences.SelectMany(sequence => sequence.Decode(100 + step)))];

    public static KvCacheOptions Config(KvFormats formats)
    {
        KvCacheOptions config = TestCaches.Config(formats);
        (config.MaxSequences, config.ModelFingerprint, config.PoisonPages) = (6, "model", true);
        return config;
    }
}
