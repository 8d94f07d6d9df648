using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests.Snapshots;

/// <summary>A snapshot holds what its sequences hold: nothing of tokens that were taken back, and no number that the cache's steps refuse.</summary>
public sealed class LiveTokensTests
{
    private const float Secret = 0.8125f;
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Theory]
    [InlineData("rolled back")]
    [InlineData("cut")]
    [InlineData("cut into a sealed page")]
    [InlineData("cut in a fork")]
    [InlineData("refused")]
    public void Bytes_of_tokens_that_are_gone_are_zero(string how)
    {
        foreach (PageFormat format in (PageFormat[])[PageFormat.F32, PageFormat.F16, PageFormat.I8, PageFormat.FP8])
        {
            KvCacheOptions config = TestCaches.Config(format);
            config.FullPrecision = format == PageFormat.F16 ? PageFormat.F16 : PageFormat.F32;
            config.PoisonPages = true;
            using KvCache cache = TestCaches.Simd(G, config);
            KvSequence sequence = cache.CreateSequence();
            Append(sequence, 6, 0);
            KvStep step = sequence.Begin([9]);
            Fill(step, 1, Secret, how == "refused" ? float.NaN : Secret);
            switch (how)
            {
                case "refused":
                    Assert.Throws<KvNonFiniteException>(step.Commit);
                    break;
                case "rolled back":
                    step.Dispose();
                    break;
                case "cut":
                    step.Commit();
                    sequence.Truncate(6);
                    break;
                case "cut in a fork":
                    step.Commit();
                    sequence = sequence.Fork();
                    sequence.Truncate(6);
                    break;
                default:
                    step.Commit();
                    Append(sequence, 9, Secret);
                    sequence.Truncate(6);
                    break;
            }

            byte[] bytes = BytesOf(cache, sequence, out int pages);
            Assert.True(pages > 0 && bytes.Length > 0);

            // All that the tokens which are left hold is 0.
            Assert.True(bytes.AsSpan().IndexOfAnyExcept((byte)0) < 0 || format is PageFormat.I8 or PageFormat.FP8, $"{format}");
            Assert.False(Holds(bytes, Secret, cache), $"{format}");
        }
    }

    [Fact]
    public void A_page_that_forks_share_is_saved_for_the_one_that_holds_the_most()
    {
        KvCacheOptions config = TestCaches.Config(PageFormat.I8);
        using KvCache cache = TestCaches.Simd(G, config);
        KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 16);
        KvSequence cut = sequence.Fork();
        cut.Truncate(5);
        SnapshotStore store = LiveCaches.Store();
        cache.Saved(store, "s", cut, sequence);
        using KvCache other = TestCaches.Simd(G, config);
        IReadOnlyList<KvSequence> loaded = other.Restored(store).Sequences;
        Assert.Equal(cut.Materialized(1).Keys, loaded[0].Materialized(1).Keys);
        Assert.Equal(sequence.Materialized(1).Keys, loaded[1].Materialized(1).Keys);
        Assert.Equal(cache.State.Pool.LiveBytes, other.State.Pool.LiveBytes);
    }

    [Theory]
    [InlineData(PageFormat.F32, PageFormat.F32)]
    [InlineData(PageFormat.F16, PageFormat.F16)]
    [InlineData(PageFormat.BF16, PageFormat.BF16)]
    [InlineData(PageFormat.I8, PageFormat.I8)]
    [InlineData(PageFormat.FP8, PageFormat.FP8)]
    [InlineData(PageFormat.T4, PageFormat.V4)]
    public async Task Numbers_that_steps_refuse_are_refused_of_snapshots(PageFormat key, PageFormat value)
    {
        foreach ((float number, bool isValue, int at) in new[] { (float.NaN, false, 2), (float.NegativeInfinity, true, 13), (float.PositiveInfinity, false, 13), (float.NaN, true, 5) })
        {
            KvCacheOptions config = TestCaches.Config(new KvFormats(key, value));
            config.FullPrecision = key.IsFullPrecision() ? key : PageFormat.F16;
            config.NonFinite = NonFinitePolicy.Keep;
            using KvCache saving = TestCaches.Simd(G, config);
            KvSequence saved = saving.CreateSequence();
            for (int token = 0; token < 14; token++)
            {
                using KvStep step = saved.Begin([token]);
                Fill(step, 1, token == at && !isValue ? number : 0.5f, token == at && isValue ? number : 0.25f);
                step.Commit();
            }

            SnapshotStore store = LiveCaches.Store();
            saving.Saved(store);
            using KvCache keeping = TestCaches.Simd(G, config);
            Assert.Equal(14, keeping.Restored(store).Sequences[0].Length);
            config.NonFinite = NonFinitePolicy.Reject;
            using KvCache cache = TestCaches.Simd(G, config);
            long before = cache.AllocatedBytes;
            Assert.Equal("E009", (await Assert.ThrowsAsync<KvUnsupportedException>(() => cache.LoadAsync(store, "s"))).Code);
            Assert.Equal((before, default), (cache.AllocatedBytes, cache.GetPageCounts()));

            // Cut off, it is no part of what is saved.
            saved.Truncate(at);
            saving.Saved(store);
            Assert.Equal(at, cache.Restored(store).Sequences[0].Length);
        }
    }

    private static void Append(KvSequence sequence, int tokens, float number)
    {
        for (int token = 0; token < tokens; token++)
        {
            using KvStep step = sequence.Begin([token]);
            Fill(step, 1, number, number);
            step.Commit();
        }
    }

    private static void Fill(KvStep step, int tokens, float key, float value)
    {
        float[] keys = new float[tokens * G.KvHeads * G.KeyWidth], values = new float[tokens * G.KvHeads * G.ValueWidth];
        Array.Fill(keys, key);
        Array.Fill(values, value);
        for (int layer = 0; layer < G.Layers; layer++)
        {
            step.Append(layer, keys, values);
        }
    }

    private static byte[] BytesOf(KvCache cache, KvSequence sequence, out int pages)
    {
        using var capture = new CacheCapture(cache.State);
        Assert.True(sequence.State.Gate.EnterNext(default));
        capture.Add(sequence.State);
        sequence.State.Gate.Leave();
        SnapshotContent content = capture.Content;
        pages = content.PageClasses.Length;
        var bytes = new List<byte>();
        for (int page = 0; page < pages; page++)
        {
            PageLayout layout = content.Classes[content.PageClasses.Span[page]];
            byte[] one = new byte[layout.Bytes];
            capture.Read(page, one);

            // Of a sealed page the mean and the deviation stay: they are the page's.
            bool isSealed = (content.PageStates.Span[page] & PageState.Sealed) != 0;
            bytes.AddRange(one[..(isSealed ? layout.DigestOffset * sizeof(int) : layout.Bytes)]);
        }

        return [.. bytes];
    }

    private static bool Holds(byte[] bytes, float number, KvCache cache) => cache.State.Options.FullPrecision == PageFormat.F16
        ? MemoryMarshal.Cast<byte, Half>(bytes).Contains((Half)number)
        : MemoryMarshal.Cast<byte, float>(bytes).Contains(number);
}
