using System.Buffers.Binary;
using KvCacheGpu.Import.Tests;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Tests.Snapshots;

/// <summary>A file is loaded by what it holds; refused, it leaves no trace in the cache and stays as it is.</summary>
public sealed class LoadFileTests : IDisposable
{
    private static readonly KvGeometry G = TestCaches.Tiny;
    private static readonly int[] Ids = [.. Enumerable.Range(300, 70)];

    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-file-").FullName;
    private readonly KvCache _cache = Create();
    private readonly KvCache _twin = Create();
    private readonly KvSequence _live;
    private readonly KvSequence _same;

    public LoadFileTests()
    {
        (_live, _same) = (_cache.CreateSequence(), _twin.CreateSequence());
        _live.FeedMany(1, 11);
        _same.FeedMany(1, 11);
    }

    private string StorePath => Path.Combine(_folder, "store");

    public void Dispose()
    {
        _cache.Dispose();
        _twin.Dispose();
        Directory.Delete(_folder, true);
    }

    [Theory]
    [InlineData("CURRENT")]
    [InlineData("MANIFEST")]
    [InlineData("BLOCKS")]
    public async Task Each_file_of_a_snapshot_is_known_by_its_bytes_and_no_importer_is_asked(string part)
    {
        var importer = new TokenFile();
        string path = Saved(part);
        KvRestored restored = await _cache.LoadFileAsync(path, [importer]);
        Assert.Null(restored.ImportedBy);
        Assert.Equal(0, importer.Asked);
        Assert.True(restored.IsExact, string.Join("; ", restored.Notes));
        Assert.Equal(LiveCaches.Transcript([_live]), LiveCaches.Transcript(restored.Sequences));
    }

    [Fact]
    public async Task A_foreign_file_comes_through_its_importer_as_if_the_model_had_computed_it()
    {
        KvRestored restored = await _cache.LoadFileAsync(Written(TokenFile.Write(Ids)), [new TokenFile()]);
        Assert.Equal("token file", restored.ImportedBy);
        Assert.Null(restored.Snapshot);
        Assert.False(restored.IsExact);
        Assert.Equal(["first", "second"], restored.Sequences.Select(sequence => sequence.Name));
        KvSequence[] expected = [_twin.CreateSequence(), _twin.CreateSequence()];
        for (int i = 0; i < expected.Length; i++)
        {
            expected[i].FeedMany(300 + (35 * i), 35, _twin.State.Options.MaxBatchTokens);
            expected[i].Metadata = new Dictionary<string, string> { ["from"] = "afar" };
        }

        Assert.Equal(LiveCaches.Transcript(expected), LiveCaches.Transcript(restored.Sequences));
        Assert.Equal(LiveCaches.GoOn(expected, 6), LiveCaches.GoOn(restored.Sequences, 6));
    }

    [Fact]
    public async Task An_old_cache_needs_no_importer_and_has_its_axes_told_apart_by_the_cache()
    {
        // [layers, tokens, heads, width], which says nothing of itself.
        OldArray Half(int sign) => new("f8", [G.Layers, 20, G.KvHeads, G.KeyWidth], i => sign * (i % 500) / 4.0);
        KvRestored restored = await _cache.LoadFileAsync(Written(OldPickle.Of(new (object, object?)[]
        {
            ("s", new object?[] { Half(1), Half(-1) }), ("config", "none"), ("flat", new OldArray("f4", [12], i => i)),
        })));
        Assert.Equal(("pickle and torch.save", 1), (restored.ImportedBy, restored.Sequences.Count));
        Assert.Equal(("s", 20), (restored.Sequences[0].Name, restored.Sequences[0].Length));
        Assert.Contains("of 3 entries, 2 are left out: /'config': no tensor; /'flat': one tensor, without values beside it", restored.Notes);
        float[] keys = new float[20 * G.KvHeads * G.KeyWidth];
        float[] values = new float[keys.Length];
        restored.Sequences[0].Materialize(1, keys, values);
        Assert.All(keys.Index(), k => Assert.Equal((keys.Length + k.Index) % 500 / 4f, k.Item, 1f));
        Assert.Equal(keys.Select(k => -k).Average(), values.Average(), 0.5f);
    }

    [Theory]
    [InlineData("version https://git-lfs.github.com/spec/v1\n", "E009", "a Git LFS pointer")]
    [InlineData("\u0080\u0002cposix\nsystem\n.", "E009", "global posix.system at byte 2")]
    [InlineData("\u0080\u0002NN.", "E004", "STOP at byte 4")]
    [InlineData("\u0080\u0002N.", "E003", "none in 1")]
    [InlineData("PK\u0003\u0004 and nothing else", "E004", "ZIP file")]
    public async Task An_old_cache_that_is_none_is_refused_as_what_it_is(string bytes, string code, string told)
    {
        string path = Written(System.Text.Encoding.Latin1.GetBytes(bytes));
        KvCacheException refused = await Assert.ThrowsAnyAsync<KvCacheException>(() => _cache.LoadFileAsync(path));
        Assert.Equal(code, refused.Code);
        Assert.Contains(told, refused.Message, StringComparison.Ordinal);
        Assert.Equal(1, refused.Message.Split("E00").Length - 1);
        CheckUntouched();
    }

    [Fact]
    public async Task What_this_cache_cannot_hold_is_refused_with_the_sequence_and_its_token()
    {
        object?[] Pair(double at30) =>
        [
            .. Enumerable.Range(0, 2).Select(_ => (object?)Enumerable.Range(0, 2).Select(_ => (object?)new OldArray(
                "f4", [G.KvHeads, 40, G.KeyWidth], i => i == (40 + 30) * G.KeyWidth ? at30 : i % 7)).ToArray()),
        ];
        string path = Written(OldPickle.Of(new (object, object?)[] { ("fine", Pair(1)), ("large", Pair(70_000)) }));
        KvNonFiniteException refused = await Assert.ThrowsAsync<KvNonFiniteException>(() => _cache.LoadFileAsync(path));
        Assert.Equal((0, 30, 1, false), (refused.Layer, refused.Token, refused.Head, refused.IsValue));
        Assert.Contains("sequence 'large', key of layer 0, token 30, KV head 1", refused.Message, StringComparison.Ordinal);
        CheckUntouched();
    }

    [Theory]
    [InlineData("unknown", "E009")]
    [InlineData("empty", "E009")]
    [InlineData("renamed", "E009")]
    [InlineData("gone", "E002")]
    [InlineData("symlink", "E005")]
    [InlineData("newer", "E007")]
    [InlineData("truncated", "E004")]
    [InlineData("other heads", "E003")]
    [InlineData("throws at open", "E004")]
    [InlineData("throws at first 1", "E004")]
    [InlineData("throws at second 0", "E004")]
    [InlineData("throws at second 1", "E004")]
    public async Task What_is_refused_leaves_no_trace_and_stays_as_it_is(string what, string code)
    {
        string path = Planted(what);
        byte[]? bytes = File.Exists(path) ? File.ReadAllBytes(path) : null;
        DateTime written = File.GetLastWriteTimeUtc(path);
        var importer = new TokenFile
        {
            KvHeads = what == "other heads" ? 1 : G.KvHeads,
            Before = at => _ = what == $"throws at {at}" ? throw new InvalidDataException("a file that is not whole") : 0,
        };
        KvCacheException error = await Assert.ThrowsAnyAsync<KvCacheException>(() => _cache.LoadFileAsync(path, [importer]));
        Assert.Equal(code, error.Code);
        if (what == "unknown")
        {
            Assert.Contains("token file", error.Message, StringComparison.Ordinal);
        }

        Assert.Equal(bytes, File.Exists(path) ? File.ReadAllBytes(path) : null);
        Assert.Equal(written, File.GetLastWriteTimeUtc(path));
        CheckUntouched();
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Cancelled_at_any_report_no_page_stays(bool isImport)
    {
        string path = isImport ? Written(TokenFile.Write(Ids)) : Saved("MANIFEST");
        int cancelled = 0;
        for (int at = 0; ; at++)
        {
            using var source = new CancellationTokenSource();
            int reports = 0;
            var progress = new OnReport(() => (++reports == at ? source : null)?.Cancel());
            if (at == 0)
            {
                await source.CancelAsync();
            }

            try
            {
                KvRestored restored = await _cache.LoadFileAsync(path, [new TokenFile()], SnapshotSample.Inline, progress, cancellationToken: source.Token);
                foreach (KvSequence sequence in restored.Sequences)
                {
                    sequence.Dispose();
                }
            }
            catch (OperationCanceledException)
            {
                cancelled++;
            }

            Assert.Equal(LiveCaches.Transcript([_same]), LiveCaches.Transcript([_live]));
            Assert.Equal(_twin.GetPageCounts(), _cache.GetPageCounts());
            if (!source.IsCancellationRequested)
            {
                break;
            }
        }

        Assert.True(cancelled > 1, $"cancelled {cancelled} times");
    }

    private static KvCache Create()
    {
        KvCacheOptions config = TestCaches.Config(PageFormat.I8, maxBatchTokens: 16);
        config.PoisonPages = true;
        return TestCaches.Simd(G, config);
    }

    private void CheckUntouched()
    {
        Assert.Equal(LiveCaches.Transcript([_same]), LiveCaches.Transcript([_live]));
        Assert.Equal(_twin.GetPageCounts(), _cache.GetPageCounts());
        Assert.Equal(_twin.AllocatedBytes, _cache.AllocatedBytes);
        Assert.Equal(LiveCaches.GoOn([_same], 6), LiveCaches.GoOn([_live], 6));
    }

    private string Planted(string what)
    {
        string path = Path.Combine(_folder, "file");
        switch (what)
        {
            case "unknown":
                return Written("neither of them"u8.ToArray());
            case "empty":
                return Written([]);
            case "gone":
                return path;
            case "symlink":
                File.CreateSymbolicLink(path, Saved("MANIFEST"));
                return path;
            case "renamed":
                File.Copy(Saved("MANIFEST"), path);
                return path;
            case "newer":
                path = Saved("BLOCKS");
                byte[] bytes = File.ReadAllBytes(path);
                BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(8), 2);
                SmallSnapshot.ResealHeader(bytes);
                File.WriteAllBytes(path, bytes);
                return path;
            case "truncated":
                path = Saved("BLOCKS");
                File.WriteAllBytes(path, File.ReadAllBytes(path)[..^1]);
                return path;
            default:
                return Written(TokenFile.Write(Ids));
        }
    }

    private string Written(byte[] bytes)
    {
        string path = Path.Combine(_folder, "file.pt");
        File.WriteAllBytes(path, bytes);
        return path;
    }

    private string Saved(string part)
    {
        _cache.Saved(new SnapshotStore(StorePath, SnapshotSample.Inline));
        return Directory.EnumerateFiles(StorePath).Single(file => file.Contains(part, StringComparison.Ordinal));
    }
}
