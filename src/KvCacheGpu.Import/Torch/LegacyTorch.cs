namespace KvCacheGpu.Import;

/// <summary>
/// torch.save's older form: five pickles one after the other, then the storages.
/// <c>[magic][1001][sys-info][object][keys] then for each key [i64 elements][raw]</c>
/// </summary>
internal sealed class LegacyTorch
{
    private const int Version = 1001;

    private readonly Dictionary<string, Storage> _storages = new(StringComparer.Ordinal);
    private readonly Dictionary<(string Key, string View), StorageValue> _views = [];

    private static Int128 Magic { get; } = (Int128)0x1950a86aUL << 48 | 0x20f9469cfc6cL;

    /// <summary>True if the first pickle of a stream announces this form.</summary>
    public static bool IsMagic(PickleValue value) => value is IntegerValue integer && integer.Value == Magic;

    /// <summary>Reads the rest after the magic number, to the source's end.</summary>
    public static PickleValue Read(PickleMachine machine, ByteSource source)
    {
        if (machine.Run() is not IntegerValue { Value: var version } || version != Version)
        {
            throw ImportException.Unsupported("torch file", machine.Input.Offset, $"version {Version}", "another");
        }

        CheckSystem(machine.Run(), machine.Input.Offset);
        LegacyTorch file = new();
        machine.PersistentIds = file.Find;
        PickleValue root = machine.Run();
        machine.PersistentIds = null;
        ListValue keys = machine.Run() as ListValue ?? throw ImportException.Corrupt("storage keys", machine.Input.Offset, "a list", "another value");
        file.BindAll(keys, machine.Input);
        return root;
    }

    /// <summary>Reads a file within a pickle: a tensor of torch that was pickled on its own holds a whole file of this form.</summary>
    /// <exception cref="ImportException">The file is of another form, or another file lies within it.</exception>
    public static PickleValue ReadNested(ByteSource source, ReadBudget budget, long at)
    {
        PickleMachine machine = new(source, budget, nested: null);
        return IsMagic(machine.Run())
            ? Read(machine, source)
            : throw ImportException.Corrupt("torch.storage._load_from_bytes", at, "the magic number of a torch file", "another value");
    }

    /// <summary>Checks the sys-info: this form was never written on big-endian machines.</summary>
    public static void CheckSystem(PickleValue value, long offset)
    {
        if (value is not DictValue info || info.Find("little_endian") is not BoolValue { Value: true })
        {
            throw ImportException.Unsupported("sys-info", offset, "little_endian True", "none such");
        }
    }

    private StorageValue Find(PickleValue id, long offset)
    {
        if (id is not TupleValue { Items: [TextValue { Value: "storage" }, GlobalValue { Global: PickleGlobal.StorageClass, Type: { } type }, TextValue key, TextValue, var count, var view] })
        {
            throw ImportException.Unsupported("BINPERSID", offset, "(\"storage\", type, key, location, elements, view)", PickleKeys.Describe(id));
        }

        long elements = TensorBounds.Whole("storage elements", count, offset);
        if (!_storages.TryGetValue(key.Value, out Storage? storage))
        {
            _storages.Add(key.Value, storage = new Storage(type, elements));
        }

        if (storage.Type != type || storage.Elements != elements)
        {
            throw ImportException.Corrupt("BINPERSID", offset, $"storage {key.Value} as before", "another type or length");
        }

        return view switch
        {
            NoneValue => new StorageValue(storage, 0, elements),
            TupleValue { Items: [TextValue viewKey, var start, var length] } => View(storage, key.Value, viewKey.Value, start, length, offset),
            _ => throw ImportException.Unsupported("BINPERSID", offset, "None or (key, offset, elements) as view", PickleKeys.Describe(view)),
        };
    }

    private StorageValue View(Storage storage, string key, string viewKey, PickleValue start, PickleValue length, long offset)
    {
        long first = TensorBounds.Whole("view offset", start, offset);
        long elements = TensorBounds.Whole("view elements", length, offset);
        if (first > storage.Elements || elements > storage.Elements - first)
        {
            throw ImportException.Corrupt("BINPERSID", offset, $"a view within {storage.Elements} elements", $"{elements} from {first} on");
        }

        if (!_views.TryGetValue((key, viewKey), out StorageValue? view))
        {
            _views.Add((key, viewKey), view = new StorageValue(storage, first, elements));
        }

        return view.Offset == first && view.Elements == elements
            ? view
            : throw ImportException.Corrupt("BINPERSID", offset, $"view {viewKey} as before", "another");
    }

    private void BindAll(ListValue keys, PickleInput input)
    {
        foreach (PickleValue item in keys.Items)
        {
            if (item is not TextValue key || !_storages.TryGetValue(key.Value, out Storage? storage) || storage.IsBound)
            {
                throw ImportException.Corrupt("storage keys", input.Offset, "each storage once", PickleKeys.Describe(item));
            }

            long elements = input.ReadInt64();
            if (elements != storage.Elements)
            {
                throw ImportException.Corrupt($"storage {key.Value}", input.Offset, $"{storage.Elements} elements", $"{elements}");
            }

            storage.Bind(input.Payload($"storage {key.Value}", (ulong)TorchTensors.BytesOf(storage.Type, elements)));
        }

        foreach ((string key, Storage storage) in _storages)
        {
            if (!storage.IsBound)
            {
                throw ImportException.Corrupt($"storage {key}", input.Offset, "its data", "none");
            }
        }

        if (input.Remaining > 0)
        {
            throw ImportException.Corrupt("torch file", input.Offset, "its end", $"{input.Remaining} bytes more");
        }
    }
}
