using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Tests.Snapshots;

/// <summary>
/// A snapshot that version 0.1 wrote, with the first tables of levels: three layers of T4/V4, T3/V3 and T2/V2, 56 tokens of width 40 in pages of
/// 16, of which two are sealed. Beside it lies what 0.1 decoded of those: for each layer f32[32][40] keys, then values.
/// </summary>
public sealed class OldLevelsTests
{
    private const int Layers = 3;
    private const int SealedTokens = 32;
    private const int Width = 40;
    private const int Tokens = 56;

    private static readonly SnapshotName Name = new("levels-1");

    // How far numbers may lie apart, as a part of a vector: what OldLevels says, the gain's rounding, and as much again where a mean shortens the key.
    private static readonly double[] Apart = [2 * 0.0239, 2 * 0.0026, 2 * 0.0011];

    [Fact]
    public void A_snapshot_of_0_1_loads_as_exact_pages_that_read_as_they_did()
    {
        using KvCache cache = Create(pageTokens: 16);
        KvRestored restored = cache.Restored(Golden(), Name.Name);
        Assert.Equal((12L, 0L), (restored.ExactPages, restored.ReencodedPages));
        using KvSequence sequence = restored.Sequences.Single();
        AssertNear(sequence);

        // Saved again it is of today, and is read without a change.
        SnapshotStore store = LiveCaches.Store();
        cache.Saved(store, "again", sequence);
        using (OpenSnapshot saved = store.Open(new SnapshotName("again"), true, null, default))
        {
            Assert.Equal(Levels.Version, saved.Content.LevelsVersion);
        }

        using KvCache other = Create(pageTokens: 16);
        using KvSequence again = other.Restored(store, "again").Sequences.Single();
        Assert.Equal(LiveCaches.Transcript([sequence], scores: false), LiveCaches.Transcript([again], scores: false));
    }

    [Theory]
    [InlineData(16)]
    [InlineData(8)]
    public void Its_pages_are_written_anew_in_other_formats_and_sizes(int pageTokens)
    {
        var geometry = new KvGeometry(Layers, queryHeads: 1, kvHeads: 1, Width, pageTokens: pageTokens);
        using var cache = new KvCache(geometry, new KvCacheOptions { KeyFormat = PageFormat.F32, ValueFormat = PageFormat.F32, MemoryBudgetBytes = 1 << 24 });
        KvRestored restored = cache.Restored(Golden(), Name.Name);
        Assert.Equal(Layers * geometry.PagesFor(Tokens), restored.ReencodedPages);
        using KvSequence sequence = restored.Sequences.Single();
        AssertNear(sequence);
    }

    [Fact]
    public void Levels_that_nobody_knows_yet_are_refused()
    {
        SnapshotStore store = Golden();
        using (OpenSnapshot old = store.Open(Name, true, null, default))
        {
            Assert.Equal(OldLevels.Version, old.Content.LevelsVersion);
            store.Save(new SnapshotName("later"), old.Content with { LevelsVersion = Levels.Version + 1 }, old.Read);
        }

        using KvCache cache = Create(pageTokens: 16);
        Assert.Equal("E009", Assert.Throws<KvUnsupportedException>(() => cache.Restored(store, "later")).Code);
    }

    private static KvCache Create(int pageTokens) => new(
        new KvGeometry(Layers, queryHeads: 1, kvHeads: 1, Width, pageTokens: pageTokens),
        new KvCacheOptions
        {
            KeyFormat = PageFormat.T4,
            ValueFormat = PageFormat.V4,
            LayerFormats = new Dictionary<int, KvFormats> { [1] = new(PageFormat.T3, PageFormat.V3), [2] = new(PageFormat.T2, PageFormat.V2) },
            MemoryBudgetBytes = 1 << 24,
        });

    private static SnapshotStore Golden()
    {
        var disk = new MemoryDisk();
        string folder = Path.Combine(AppContext.BaseDirectory, "Snapshots", "Golden", "levels-1");
        OldWriter.Put(disk, Name, Directory.EnumerateFiles(folder).Where(file => !file.EndsWith(".f32", StringComparison.Ordinal))
            .ToDictionary(file => Path.GetFileName(file), File.ReadAllBytes));
        return new MemoryStore(disk).Store;
    }

    private static void AssertNear(KvSequence sequence)
    {
        float[] decoded = MemoryMarshal.Cast<byte, float>(File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "Snapshots", "Golden", "levels-1", "decoded.f32"))).ToArray();
        float[][] parts = [.. decoded.Chunk(SealedTokens * Width)];
        Assert.Equal(2 * Layers, parts.Length);
        for (int layer = 0; layer < Layers; layer++)
        {
            float[] keys = new float[Tokens * Width], values = new float[Tokens * Width];
            Assert.Equal(Tokens, sequence.Materialize(layer, keys, values));
            AssertNear(parts[2 * layer], keys, Apart[layer]);
            AssertNear(parts[(2 * layer) + 1], values, layer == 0 ? 1e-6 : Apart[layer]);
        }
    }

    private static void AssertNear(float[] expected, float[] got, double apart)
    {
        for (int t = 0; t < SealedTokens; t++)
        {
            ReadOnlySpan<float> then = expected.AsSpan(t * Width, Width), now = got.AsSpan(t * Width, Width);
            double size = 0, distance = 0;
            for (int e = 0; e < Width; e++)
            {
                size += then[e] * then[e];
                distance += (then[e] - now[e]) * (then[e] - now[e]);
            }

            Assert.InRange(Math.Sqrt(distance / size), 0, apart);
        }
    }
}
