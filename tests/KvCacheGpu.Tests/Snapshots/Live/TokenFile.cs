using System.Buffers.Binary;

namespace KvCacheGpu.Tests.Snapshots;

/// <summary>A foreign format of the tests' own: the word TOKENS, and token ids, of which keys and values follow.</summary>
internal sealed class TokenFile : ISnapshotImporter
{
    private static ReadOnlySpan<byte> Magic => "TOKENS"u8;

    public string Name => "token file";

    /// <summary>Heads that it says it has.</summary>
    public int KvHeads { get; init; } = TestCaches.Tiny.KvHeads;

    /// <summary>Called when it is opened, and before each layer is read.</summary>
    public Action<string> Before { get; init; } = _ => { };

    public int Asked { get; private set; }

    public static byte[] Write(params int[] ids)
    {
        byte[] bytes = new byte[Magic.Length + (ids.Length * sizeof(int))];
        Magic.CopyTo(bytes);
        for (int i = 0; i < ids.Length; i++)
        {
            BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(Magic.Length + (i * sizeof(int))), ids[i]);
        }

        return bytes;
    }

    public bool CanRead(ReadOnlySpan<byte> firstBytes)
    {
        Asked++;
        return firstBytes.StartsWith(Magic);
    }

    public ImportedCache Read(Stream file, CancellationToken cancellationToken)
    {
        Before("open");
        byte[] bytes = new byte[file.Length];
        file.ReadExactly(bytes);
        int[] ids = [.. bytes[Magic.Length..].Chunk(sizeof(int)).Select(one => BinaryPrimitives.ReadInt32LittleEndian(one))];
        return new ImportedCache
        {
            Layers = TestCaches.Tiny.Layers,
            KvHeads = KvHeads,
            KeyWidth = TestCaches.Tiny.KeyWidth,
            ValueWidth = TestCaches.Tiny.ValueWidth,
            Sequences = [Half("first", ids[..(ids.Length / 2)]), Half("second", ids[(ids.Length / 2)..])],
        };
    }

    private ImportedSequence Half(string name, int[] ids) => new()
    {
        Id = name,
        Tokens = ids.Length,
        TokenIds = ids,
        Metadata = new Dictionary<string, string> { ["from"] = "afar" },
        ReadLayer = (layer, first, tokens, keys, values) =>
        {
            Before($"{name} {layer}");
            TokenContent.Keys(TestCaches.Tiny, layer, ids.AsSpan(first, tokens)).CopyTo(keys);
            TokenContent.Values(TestCaches.Tiny, layer, ids.AsSpan(first, tokens)).CopyTo(values);
        },
    };
}
