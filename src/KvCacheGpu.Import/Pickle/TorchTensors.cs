namespace KvCacheGpu.Import;

/// <summary>torch's tensors: views of storages.</summary>
internal static class TorchTensors
{
    /// <summary>
    /// _rebuild_tensor_v2: storage, offset, size, stride, requires_grad, no hooks, and no metadata that would change what the elements mean.
    /// _rebuild_tensor_v3 has the elements' type before the metadata, and a storage of bytes.
    /// </summary>
    public static TensorValue Rebuild(GlobalValue rebuild, PickleValue[] arguments, ReadBudget budget, long offset)
    {
        bool isTyped = rebuild.Global == PickleGlobal.TensorRebuildTyped;
        ReadOnlySpan<PickleValue> metadata = arguments.AsSpan(isTyped ? Math.Min(7, arguments.Length) : 6);
        if (arguments[5] is not DictValue { Items.Count: 0 } || metadata is not ([] or [NoneValue or DictValue { Items.Count: 0 }]))
        {
            throw ImportException.Unsupported($"REDUCE of {rebuild.Name}", offset, "a tensor without hooks and metadata", "one that has some");
        }

        StorageValue storage = (StorageValue)arguments[0];
        if (isTyped)
        {
            PickleValue? dtype = arguments.Length > 6 ? arguments[6] : null;
            storage = dtype is GlobalValue { Global: PickleGlobal.TorchDtype, Type: { } type }
                ? As(type, storage, offset)
                : throw ImportException.Unsupported($"REDUCE of {rebuild.Name}", offset, "elements of a type that is read here", dtype is null ? "none" : PickleKeys.Describe(dtype));
        }

        return View(storage, arguments[1], (TupleValue)arguments[2], (TupleValue)arguments[3], budget, offset);
    }

    /// <summary>Makes a view from the arguments of a stream.</summary>
    public static TensorValue View(StorageValue storage, PickleValue start, TupleValue size, TupleValue stride, ReadBudget budget, long offset) => Create(
        storage,
        TensorBounds.Whole("storage offset", start, offset),
        TensorBounds.Dimensions("tensor size", size, offset),
        TensorBounds.Dimensions("tensor stride", stride, offset),
        budget,
        offset);

    // A storage of the same bytes as elements of another type.
    private static StorageValue As(ElementType type, StorageValue storage, long offset)
    {
        int from = storage.Root.Type.Bytes();
        int to = type.Bytes();
        Int128 first = (Int128)storage.Offset * from;
        return first % to == 0
            ? new StorageValue(
                new Storage(type, (long)((Int128)storage.Root.Elements * from / to), storage.Root), (long)(first / to), (long)((Int128)storage.Elements * from / to))
            : throw ImportException.Corrupt("tensor", offset, $"a storage that begins at an element of {type.Name()}", $"byte {first}");
    }

    /// <summary>Makes a view after it has been checked.</summary>
    public static TensorValue Create(StorageValue storage, long start, long[] sizes, long[] strides, ReadBudget budget, long offset)
    {
        TensorBounds.Check(storage.Root.Type, start, sizes, strides, storage.Elements, budget, offset);
        return new TensorValue(new ImportTensor(storage.Root, storage.Offset + start, sizes, strides));
    }

    /// <summary>Bytes of a storage's elements; -1 if 64 bits do not hold the number.</summary>
    public static long BytesOf(ElementType type, long elements) => elements <= long.MaxValue / type.Bytes() ? elements * type.Bytes() : -1;
}
