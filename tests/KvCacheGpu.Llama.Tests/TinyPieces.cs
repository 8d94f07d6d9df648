using Google.Protobuf;

namespace KvCacheGpu.Llama.Tests;

/// <summary>A SentencePiece model in the bytes that sentencepiece writes; tests bend single parts of it.</summary>
internal sealed class TinyPieces
{
    private static readonly string[] Words =
        ["\u2581t", "he", "\u2581the", "in", "er", "\u2581a", "\u2581in", "\u2581\u2581", "the", "\u2581", "t", "h", "e", "i", "n", "r", "a", "b", "\u00e9"];

    public TinyPieces()
    {
        Pieces = [("<unk>", 0, 2), ("<s>", 0, 3), ("</s>", 0, 3)];
        Pieces.AddRange(Enumerable.Range(0, 256).Select(value => ($"<0x{value:X2}>", 0f, 6)));
        Pieces.AddRange(Words.Select((word, rank) => (word, (float)-rank, 1)));
    }

    public List<(string Text, float Score, int Kind)> Pieces { get; }

    public int ModelType { get; set; } = 2;

    public bool ByteFallback { get; set; } = true;

    public bool SuffixSpaces { get; set; }

    public byte[] CharacterMap { get; set; } = [];

    public bool AddsSpace { get; set; } = true;

    public bool RemovesSpaces { get; set; }

    public bool EscapesSpaces { get; set; } = true;

    public byte[] ToBytes() => Message(model =>
    {
        foreach ((string text, float score, int kind) in Pieces)
        {
            Put(model, 1, Message(piece =>
            {
                Tag(piece, 1, WireFormat.WireType.LengthDelimited).WriteString(text);
                Tag(piece, 2, WireFormat.WireType.Fixed32).WriteFloat(score);
                Tag(piece, 3, WireFormat.WireType.Varint).WriteInt32(kind);
            }));
        }

        Put(model, 2, Message(trainer =>
        {
            Tag(trainer, 3, WireFormat.WireType.Varint).WriteInt32(ModelType);
            Tag(trainer, 4, WireFormat.WireType.Varint).WriteInt32(Pieces.Count);
            Tag(trainer, 24, WireFormat.WireType.Varint).WriteBool(SuffixSpaces);
            Tag(trainer, 35, WireFormat.WireType.Varint).WriteBool(ByteFallback);
        }));
        Put(model, 3, Message(normalizer =>
        {
            Tag(normalizer, 1, WireFormat.WireType.LengthDelimited).WriteString(CharacterMap.Length == 0 ? "identity" : "nmt_nfkc");
            Put(normalizer, 2, CharacterMap);
            Tag(normalizer, 3, WireFormat.WireType.Varint).WriteBool(AddsSpace);
            Tag(normalizer, 4, WireFormat.WireType.Varint).WriteBool(RemovesSpaces);
            Tag(normalizer, 5, WireFormat.WireType.Varint).WriteBool(EscapesSpaces);
        }));
    });

    private static byte[] Message(Action<CodedOutputStream> write)
    {
        using MemoryStream stream = new();
        using (CodedOutputStream output = new(stream, leaveOpen: true))
        {
            write(output);
        }

        return stream.ToArray();
    }

    private static CodedOutputStream Tag(CodedOutputStream output, int field, WireFormat.WireType type)
    {
        output.WriteTag(field, type);
        return output;
    }

    private static void Put(CodedOutputStream output, int field, byte[] message) =>
        Tag(output, field, WireFormat.WireType.LengthDelimited).WriteBytes(ByteString.CopyFrom(message));
}
