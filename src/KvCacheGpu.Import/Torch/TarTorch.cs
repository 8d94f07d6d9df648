using System.Globalization;

namespace KvCacheGpu.Import;

/// <summary>torch.save's first form: a tar file of <c>sys_info</c>, <c>storages</c>, <c>tensors</c> and a <c>pickle</c> that refers to them by number.</summary>
internal sealed class TarTorch(ReadBudget budget)
{
    private readonly Dictionary<Int128, PickleValue> _objects = [];

    /// <summary>Reads a file.</summary>
    public static PickleValue Read(ByteSource file, ReadBudget budget)
    {
        Dictionary<string, ByteSource> members = TarArchive.Open(file, budget);
        foreach ((string name, ByteSource data) in members)
        {
            if (name is not ("sys_info" or "storages" or "tensors" or "pickle"))
            {
                throw ImportException.Unsupported($"member {name}", data.Origin, "a member that torch.save writes", "another");
            }
        }

        ByteSource Member(string name) =>
            members.TryGetValue(name, out ByteSource? data) ? data : throw ImportException.Corrupt($"member {name}", null, "it in the archive", "none");

        TarTorch archive = new(budget);
        PickleMachine info = new(Member("sys_info"), budget, LegacyTorch.ReadNested);
        LegacyTorch.CheckSystem(info.Run(), info.Input.Offset);
        End(info);
        archive.ReadStorages(new PickleMachine(Member("storages"), budget, LegacyTorch.ReadNested));
        archive.ReadTensors(new PickleMachine(Member("tensors"), budget, LegacyTorch.ReadNested) { AllowsTensorClasses = true });
        PickleMachine machine = new(Member("pickle"), budget, LegacyTorch.ReadNested) { PersistentIds = archive.Find };
        PickleValue root = machine.Run();
        End(machine);
        return root;
    }

    // [count] then for each: [(key, location, type)][i64 elements][raw]; then [views].
    private void ReadStorages(PickleMachine machine)
    {
        long count = Count(machine, budget.Limits.Members);
        for (long i = 0; i < count; i++)
        {
            if (machine.Run() is not TupleValue { Items: [IntegerValue key, TextValue, GlobalValue { Global: PickleGlobal.StorageClass, Type: { } type }] })
            {
                throw ImportException.Unsupported("storage", machine.Input.Offset, "(key, location, type)", "another value");
            }

            long elements = machine.Input.ReadInt64();
            long bytes = elements < 0 ? -1 : TorchTensors.BytesOf(type, elements);
            ByteSource data = machine.Input.Payload("storage", (ulong)bytes);
            Add(key, new StorageValue(new Storage(type, elements).Bind(data), 0, elements), machine.Input.Offset);
        }

        ReadViews(machine);
        End(machine);
    }

    private void ReadViews(PickleMachine machine)
    {
        ListValue views = machine.Run() as ListValue ?? throw ImportException.Corrupt("storage views", machine.Input.Offset, "a list", "another value");
        foreach (PickleValue item in views.Items)
        {
            if (item is not TupleValue { Items: [IntegerValue key, IntegerValue root, var start, var length] } || !_objects.TryGetValue(root.Value, out PickleValue? value)
                || value is not StorageValue storage)
            {
                throw ImportException.Corrupt("storage views", machine.Input.Offset, "(key, root, offset, elements)", PickleKeys.Describe(item));
            }

            long first = TensorBounds.Whole("view offset", start, machine.Input.Offset);
            long elements = TensorBounds.Whole("view elements", length, machine.Input.Offset);
            if (first > storage.Elements || elements > storage.Elements - first)
            {
                throw ImportException.Corrupt("storage views", machine.Input.Offset, $"a view within {storage.Elements} elements", $"{elements} from {first} on");
            }

            Add(key, new StorageValue(storage.Root, storage.Offset + first, elements), machine.Input.Offset);
        }
    }

    // [count] then for each: [(key, storage, type)][i32 rank][4 bytes][i64 sizes][i64 strides][i64 offset].
    private void ReadTensors(PickleMachine machine)
    {
        long count = Count(machine, budget.Limits.Tensors);
        for (long i = 0; i < count; i++)
        {
            if (machine.Run() is not TupleValue { Items: [IntegerValue key, IntegerValue root, GlobalValue { Global: PickleGlobal.TensorClass, Type: { } type }] }
                || !_objects.TryGetValue(root.Value, out PickleValue? value) || value is not StorageValue storage || storage.Root.Type != type)
            {
                throw ImportException.Corrupt("tensor", machine.Input.Offset, "(key, storage, type)", "another value");
            }

            int rank = machine.Input.ReadInt32();
            _ = machine.Input.ReadInt32();
            if (rank is < 0 or > 8)
            {
                throw ImportException.Unsupported("tensor", machine.Input.Offset, "8 dimensions at most", $"{rank}");
            }

            long[] sizes = Numbers(machine.Input, rank);
            long[] strides = Numbers(machine.Input, rank);
            Add(key, TorchTensors.Create(storage, Numbers(machine.Input, 1)[0], sizes, strides, budget, machine.Input.Offset), machine.Input.Offset);
        }

        End(machine);
    }

    private static long[] Numbers(PickleInput input, int count)
    {
        long[] numbers = new long[count];
        for (int i = 0; i < count; i++)
        {
            numbers[i] = input.ReadInt64();
            if (numbers[i] < 0)
            {
                throw ImportException.Corrupt("tensor", input.Offset, $"0 to {long.MaxValue}", $"{numbers[i]}");
            }
        }

        return numbers;
    }

    private static long Count(PickleMachine machine, long limit)
    {
        long count = TensorBounds.Whole("count", machine.Run(), machine.Input.Offset);
        ReadBudget.Check("count", count, limit, machine.Input.Offset);
        return count;
    }

    private void Add(IntegerValue key, PickleValue value, long offset)
    {
        if (!_objects.TryAdd(key.Value, value))
        {
            throw ImportException.Corrupt("object", offset, "each key once", $"{key.Value} again");
        }
    }

    private PickleValue Find(PickleValue id, long offset) =>
        id is TextValue text && Int128.TryParse(text.Value, NumberStyles.None, CultureInfo.InvariantCulture, out Int128 key) && _objects.TryGetValue(key, out PickleValue? value)
            ? value
            : throw ImportException.Corrupt("BINPERSID", offset, "the number of a tensor", PickleKeys.Describe(id));

    private static void End(PickleMachine machine)
    {
        if (machine.Input.Remaining > 0)
        {
            throw ImportException.Corrupt("tar member", machine.Input.Offset, "its end", $"{machine.Input.Remaining} bytes more");
        }
    }
}
