using System.Text;

namespace KvCacheGpu.Import;

/// <summary>torch.save's form since 1.6: an archive of <c>prefix/data.pkl</c>, the storages <c>prefix/data/N</c>, <c>version</c> and, in newer files, <c>byteorder</c>.</summary>
internal sealed class ZipTorch
{
    private const int LongestKey = 10;
    private const int LongestNote = 64;

    private readonly Dictionary<string, ByteSource> _members = new(StringComparer.Ordinal);
    private readonly Dictionary<(string Key, ElementType Type), Storage> _storages = [];
    private bool _isBigEndian;

    /// <summary>Reads a file.</summary>
    public static PickleValue Read(ByteSource file, ReadBudget budget)
    {
        ZipTorch archive = new();
        string? prefix = null;
        foreach ((string name, ByteSource data) in StoredZip.Open(file, budget))
        {
            int slash = name.IndexOf('/', StringComparison.Ordinal);
            string first = slash > 0 ? name[..slash] : string.Empty;
            if (slash <= 0 || first is "." or ".." || (prefix ??= first) != first)
            {
                throw ImportException.Corrupt($"member {name}", data.Origin, "one prefix for all members", "another name");
            }

            archive.Add(name[(slash + 1)..], data);
        }

        if (Encoding.ASCII.GetString(archive.Note("version")).TrimEnd('\n') != "3")
        {
            throw ImportException.Unsupported("member version", null, "3", "another");
        }

        archive._isBigEndian = archive._members.ContainsKey("byteorder") && archive.Note("byteorder").AsSpan() switch
        {
            var order when order.SequenceEqual("big"u8) => true,
            var order when order.SequenceEqual("little"u8) => false,
            _ => throw ImportException.Unsupported("member byteorder", null, "little or big", "another"),
        };
        PickleMachine machine = new(archive.Member("data.pkl"), budget, LegacyTorch.ReadNested) { PersistentIds = archive.Find };
        PickleValue root = machine.Run();
        return machine.Input.Remaining == 0
            ? root
            : throw ImportException.Corrupt("STOP", machine.Input.Offset, "the end of data.pkl", $"{machine.Input.Remaining} bytes more");
    }

    private void Add(string name, ByteSource data)
    {
        if (name == "constants.pkl" || name.StartsWith("code/", StringComparison.Ordinal))
        {
            throw ImportException.Unsupported($"member {name}", data.Origin, "a file of torch.save", "a TorchScript program");
        }

        bool isKnown = name is "data.pkl" or "version" or "byteorder" or ".format_version" or ".storage_alignment" or ".data/serialization_id"
            || (name.StartsWith("data/", StringComparison.Ordinal) && IsKey(name.AsSpan(5)));
        if (!isKnown)
        {
            throw ImportException.Unsupported($"member {name}", data.Origin, "a member that torch.save writes", "another");
        }

        _members.Add(name, data);
    }

    private StorageValue Find(PickleValue id, long offset)
    {
        if (id is not TupleValue { Items: [TextValue { Value: "storage" }, GlobalValue { Global: PickleGlobal.StorageClass, Type: { } type }, TextValue key, TextValue, var count] }
            || !IsKey(key.Value))
        {
            throw ImportException.Unsupported("BINPERSID", offset, "(\"storage\", type, key, location, elements)", PickleKeys.Describe(id));
        }

        long elements = TensorBounds.Whole("storage elements", count, offset);
        ByteSource data = Member($"data/{key.Value}");
        if (data.Length != TorchTensors.BytesOf(type, elements))
        {
            throw ImportException.Corrupt($"member data/{key.Value}", offset, $"{elements} elements of {type.Name()}", $"{data.Length} bytes");
        }

        if (!_storages.TryGetValue((key.Value, type), out Storage? storage))
        {
            _storages.Add((key.Value, type), storage = new Storage(type, elements).Bind(data, _isBigEndian));
        }

        return new StorageValue(storage, 0, elements);
    }

    private static bool IsKey(ReadOnlySpan<char> key) => key.Length is > 0 and <= LongestKey && !key.ContainsAnyExceptInRange('0', '9');

    private ByteSource Member(string name) =>
        _members.TryGetValue(name, out ByteSource? data) ? data : throw ImportException.Corrupt($"member {name}", null, "it in the archive", "none");

    private byte[] Note(string name) =>
        Member(name) is { Length: <= LongestNote } note ? note.ToArray() : throw ImportException.Corrupt($"member {name}", null, "a short text", "a long one");
}
