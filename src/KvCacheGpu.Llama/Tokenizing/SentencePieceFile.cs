using Google.Protobuf;

namespace KvCacheGpu.Llama;

/// <summary>The kind of a piece of a SentencePiece vocabulary.</summary>
internal enum PieceKind
{
    /// <summary>Text.</summary>
    Normal = 1,

    /// <summary>The piece for text that cannot be spelled.</summary>
    Unknown = 2,

    /// <summary>A mark that never occurs in text, such as the start of a text.</summary>
    Control = 3,

    /// <summary>Text that is never cut.</summary>
    UserDefined = 4,

    /// <summary>A piece that is not used.</summary>
    Unused = 5,

    /// <summary>One byte, <c>&lt;0x0A&gt;</c>.</summary>
    Byte = 6,
}

/// <summary>
/// Reads the fields of tokenizer.model, a SentencePiece ModelProto, that are needed here: 1 pieces (1 text, 2 score, 3 kind), 2 trainer (3 model type,
/// 24 spaces as suffixes, 35 byte fallback), 3 normalizer (1 name, 2 character map, 3 space before a text, 4 extra spaces are removed, 5 spaces become ▁).
/// </summary>
internal sealed class SentencePieceFile
{
    private const int Bpe = 2;

    // The defaults of the format, for fields that the file does not have.
    private int _modelType = 1;
    private string _normalizer = string.Empty;
    private bool _hasCharacterMap;
    private bool _removesSpaces = true;
    private bool _escapesSpaces = true;
    private bool _suffixSpaces;

    private SentencePieceFile(string name) => Name = name;

    /// <summary>The name of the file in errors.</summary>
    public string Name { get; }

    /// <summary>The vocabulary; a piece's id is its index.</summary>
    public List<(string Text, PieceKind Kind, float Score)> Pieces { get; } = [];

    /// <summary>True if text gets a space before it.</summary>
    public bool AddsSpace { get; private set; } = true;

    /// <summary>True if characters that are not in the vocabulary become their bytes.</summary>
    public bool FallsBackToBytes { get; private set; }

    /// <summary>Reads a file. Refuses everything except BPE of text that is not normalized.</summary>
    public static SentencePieceFile Read(string path, LlamaConfig config)
    {
        string name = Path.GetFileName(path);
        byte[] content = ModelFile.ReadAll(path);
        if (content.Length == 0)
        {
            LlamaFormatException.ThrowCorrupt(name, "size", "1 byte or more", "0");
        }

        SentencePieceFile file = new(name);
        try
        {
            Each(content, (field, input) =>
            {
                switch (field)
                {
                    case 1:
                        file.ReadPiece(input.ReadBytes());
                        return true;
                    case 2:
                        Each(input.ReadBytes().ToByteArray(), file.ReadTrainer);
                        return true;
                    case 3:
                        Each(input.ReadBytes().ToByteArray(), file.ReadNormalizer);
                        return true;
                    default:
                        return false;
                }
            });
        }
        catch (InvalidProtocolBufferException error)
        {
            LlamaFormatException.ThrowCorrupt(name, "protobuf", "a SentencePiece ModelProto", error.Message, error);
        }

        file.Check(config);
        return file;
    }

    private static void Each(byte[] message, Func<int, CodedInputStream, bool> read)
    {
        using CodedInputStream input = new(message);
        for (uint tag = input.ReadTag(); tag != 0; tag = input.ReadTag())
        {
            if (!read(WireFormat.GetTagFieldNumber(tag), input))
            {
                input.SkipLastField();
            }
        }
    }

    private void ReadPiece(ByteString message)
    {
        string? text = null;
        PieceKind kind = PieceKind.Normal;
        float score = 0;
        Each(message.ToByteArray(), (field, input) =>
        {
            switch (field)
            {
                case 1:
                    text = input.ReadString();
                    return true;
                case 2:
                    score = input.ReadFloat();
                    return true;
                case 3:
                    kind = (PieceKind)input.ReadInt32();
                    return true;
                default:
                    return false;
            }
        });
        if (string.IsNullOrEmpty(text) || !Enum.IsDefined(kind))
        {
            LlamaFormatException.ThrowCorrupt(Name, $"piece {Pieces.Count}", "a text and a known kind", $"{text ?? "no text"}, kind {(int)kind}");
        }

        Pieces.Add((text, kind, score));
    }

    private bool ReadTrainer(int field, CodedInputStream input)
    {
        switch (field)
        {
            case 3:
                _modelType = input.ReadInt32();
                return true;
            case 24:
                _suffixSpaces = input.ReadBool();
                return true;
            case 35:
                FallsBackToBytes = input.ReadBool();
                return true;
            default:
                return false;
        }
    }

    private bool ReadNormalizer(int field, CodedInputStream input)
    {
        switch (field)
        {
            case 1:
                _normalizer = input.ReadString();
                return true;
            case 2:
                _hasCharacterMap = input.ReadBytes().Length > 0;
                return true;
            case 3:
                AddsSpace = input.ReadBool();
                return true;
            case 4:
                _removesSpaces = input.ReadBool();
                return true;
            case 5:
                _escapesSpaces = input.ReadBool();
                return true;
            default:
                return false;
        }
    }

    private void Check(LlamaConfig config)
    {
        if (Pieces.Count == 0 || Pieces.Count > config.VocabularySize)
        {
            LlamaFormatException.ThrowCorrupt(Name, "pieces", $"1..{config.VocabularySize}, as config.json has it", $"{Pieces.Count}");
        }

        string[] types = ["0", "unigram", "bpe", "word", "char"];
        Support(_modelType == Bpe, "trainer_spec.model_type", "bpe", (uint)_modelType < types.Length ? types[_modelType] : $"{_modelType}");
        Support(!_hasCharacterMap, "normalizer_spec", "identity", _normalizer.Length > 0 ? _normalizer : "a character map");
        Support(!_removesSpaces, "normalizer_spec.remove_extra_whitespaces", "false", "true");
        Support(_escapesSpaces, "normalizer_spec.escape_whitespaces", "true", "false");
        Support(!_suffixSpaces, "trainer_spec.treat_whitespace_as_suffix", "false", "true");
        Support(Pieces.TrueForAll(p => p.Kind != PieceKind.Unused), "pieces", "pieces in use", "unused ones");
        HashSet<string> texts = new(StringComparer.Ordinal);
        bool[] bytes = new bool[256];
        foreach ((string text, PieceKind kind, _) in Pieces)
        {
            int value = kind == PieceKind.Byte ? MergeModel.ByteOf(text) : 0;
            if (!texts.Add(text) || value < 0)
            {
                LlamaFormatException.ThrowCorrupt(Name, "pieces", value < 0 ? "bytes as <0x0A>" : "each piece once", text);
            }

            bytes[value] |= kind == PieceKind.Byte;
        }

        if (FallsBackToBytes && Array.IndexOf(bytes, false) is >= 0 and int missing)
        {
            LlamaFormatException.ThrowCorrupt(Name, "pieces", "one for every byte, as there is byte_fallback", $"none for 0x{missing:x2}");
        }

        if (Pieces.Count(p => p.Kind == PieceKind.Unknown) != 1)
        {
            LlamaFormatException.ThrowCorrupt(Name, "pieces", "one that is unknown", $"{Pieces.Count(p => p.Kind == PieceKind.Unknown)}");
        }
    }

    private void Support(bool met, string where, string expected, string actual)
    {
        if (!met)
        {
            LlamaFormatException.ThrowUnsupported(Name, where, expected, actual);
        }
    }
}
