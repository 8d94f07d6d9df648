using System.Security.Cryptography;
using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Made-up contents with pages that follow from a seed.</summary>
internal sealed class SnapshotSample
{
    public static readonly SnapshotOptions Inline = new() { Workers = 1, BlockBytes = 1024 };

    private readonly int _seed;

    private SnapshotSample(int seed, SnapshotContent content) => (_seed, Content) = (seed, content);

    public SnapshotContent Content { get; }

    /// <summary>A hash to compare two snapshots by: over everything that they say, and every byte of their pages.</summary>
    public string Fingerprint => FingerprintOf(Content, PageBytes());

    /// <summary>Three sequences over 2 layers of 2 heads, the second sharing pages with the first; a class for open pages, I8 and T4/V4.</summary>
    public static SnapshotSample Create(int seed, int tokens = 11, int padding = 0)
    {
        var random = new Random(seed);
        var geometry = new KvGeometry(layers: 2, queryHeads: 4, kvHeads: 2, keyWidth: 8, pageTokens: 4);
        PageLayout[] classes = [new(geometry, PageFormat.F16, PageFormat.F16, false), new(geometry, PageFormat.I8, PageFormat.I8), new(geometry, PageFormat.T4, PageFormat.V4)];
        var pages = new List<byte>();
        SnapshotSequence first = Sequence(random, geometry, pages, "chat-1", "ten/ant", tokens, null);
        SnapshotSequence second = Sequence(random, geometry, pages, "chat-2", null, tokens + 2, first);
        SnapshotSequence third = Sequence(random, geometry, pages, "", "", 0, null);
        second = second with { Metadata = new Dictionary<string, string> { ["title"] = "Ünïcode 🙂", ["pad"] = new string([.. Enumerable.Range(0, padding).Select(_ => (char)random.Next(33, 127))]) } };
        byte[] states = new byte[pages.Count];
        random.NextBytes(states);
        return new SnapshotSample(seed, new SnapshotContent
        {
            Geometry = geometry,
            Classes = classes,
            LayerClasses = [0b011, 0b111],
            RotationSeed = 0xFEDCBA9876543210,

            // As the golden files say.
            LevelsVersion = 1,
            ModelFingerprint = $"sha256:{seed}",
            Sequences = [first, second, third],
            PageClasses = pages.ToArray(),
            PageStates = states,
        });
    }

    /// <summary>A large one: a single sequence of one layer and head, pages of random bytes mixed with zeros.</summary>
    public static SnapshotSample Large(int seed, int pages, PageFormat format = PageFormat.F16)
    {
        var geometry = new KvGeometry(layers: 1, queryHeads: 1, kvHeads: 1, keyWidth: 128, pageTokens: 64);
        return new SnapshotSample(seed, new SnapshotContent
        {
            Geometry = geometry,
            Classes = [new PageLayout(geometry, PageFormat.F16, PageFormat.F16, false), new PageLayout(geometry, format, format)],
            LayerClasses = [0b11],
            RotationSeed = 7,
            Sequences =
            [
                new SnapshotSequence
                {
                    Id = "large",
                    TokenIds = Enumerable.Range(0, pages * 64).ToArray(),
                    RowStarts = (int[])[0, pages],
                    PageIndexes = Enumerable.Range(0, pages).ToArray(),
                    Ordinals = Enumerable.Range(0, pages).ToArray(),
                    FirstOpenPage = pages,
                },
            ],
            PageClasses = Enumerable.Repeat((byte)1, pages).ToArray(),
        });
    }

    /// <summary>A <see cref="SnapshotPageReader"/>.</summary>
    public void Read(int firstOrdinal, Span<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            int length = Content.BytesOf(firstOrdinal);
            var random = new Random((_seed * 1_000_003) + firstOrdinal);
            random.NextBytes(bytes[..(length / 2)]);
            bytes[(length / 2)..length].Fill((byte)firstOrdinal);
            bytes = bytes[length..];
            firstOrdinal++;
        }
    }

    public byte[] PageBytes()
    {
        byte[] bytes = new byte[Content.PageBytes];
        Read(0, bytes);
        return bytes;
    }

    public static string FingerprintOf(SnapshotContent content, byte[] pages)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(DescriptionSection.Write(content).Written);
        hash.AppendData(PageTableSection.Write(content).Written);
        hash.AppendData(SequencesSection.Write(content).Written);
        hash.AppendData(pages);
        return Convert.ToHexString(hash.GetHashAndReset());
    }

    private static SnapshotSequence Sequence(
        Random random, KvGeometry geometry, List<byte> pages, string id, string? tenant, int tokens, SnapshotSequence? shared)
    {
        List<int> starts = [0], indexes = [], ordinals = [];
        int count = geometry.PagesFor(tokens);
        for (int row = 0; row < geometry.Layers * geometry.KvHeads; row++)
        {
            for (int page = 0; page < count; page++)
            {
                if (page > 0 && page < count - 1 && random.Next(4) == 0)
                {
                    continue;
                }

                indexes.Add(page);
                if (shared is not null && page == 0)
                {
                    ordinals.Add(shared.Ordinals.Span[shared.RowStarts.Span[row]]);
                    continue;
                }

                ordinals.Add(pages.Count);
                pages.Add((byte)(page >= count - 2 ? 0 : row >= geometry.KvHeads ? random.Next(1, 3) : 1));
            }

            starts.Add(indexes.Count);
        }

        return new SnapshotSequence
        {
            Id = id,
            Tenant = tenant,
            Adapter = shared is null ? null : "lora",
            TokenIds = Enumerable.Range(0, tokens).Select(_ => random.Next()).ToArray(),
            Steps = tokens,
            FirstOpenPage = Math.Max(0, count - 2),
            RowStarts = starts.ToArray(),
            PageIndexes = indexes.ToArray(),
            Ordinals = ordinals.ToArray(),
            Scores = tokens == 0 ? [] : [new("mass", indexes.Select(_ => random.NextSingle()).ToArray()), new("query", new float[4] { 1, float.NaN, -0f, 3 })],
        };
    }
}

/// <summary>A target that keeps what comes, and knows whether it was published.</summary>
internal sealed class KeptTarget : ISnapshotTarget
{
    private SnapshotContent? _content;
    private byte[] _pages = [];
    private int _next;
    private int _at;

    public bool IsComplete { get; private set; }

    public int Abandoned { get; private set; }

    public string Fingerprint => IsComplete ? SnapshotSample.FingerprintOf(_content!, _pages) : throw new InvalidOperationException("nothing was published");

    public void Begin(SnapshotContent content)
    {
        (_content, _pages, _next, _at) = (content, new byte[content.PageBytes], 0, 0);
    }

    public void Write(int firstOrdinal, ReadOnlySpan<byte> bytes)
    {
        Assert.Equal(_next, firstOrdinal);
        bytes.CopyTo(_pages.AsSpan(_at));
        _at += bytes.Length;
        for (int left = bytes.Length; left > 0; _next++)
        {
            left -= _content!.BytesOf(_next);
        }
    }

    public void Complete()
    {
        Assert.Equal(_content!.Pages, _next);
        IsComplete = true;
    }

    public void Abandon() => Abandoned++;
}
