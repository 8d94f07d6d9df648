namespace KvCacheGpu.Import;

/// <summary>torch's tensors: views of storages.</summary>
internal static class TorchTensors
{
    /// <summary>_rebuild_tensor_v2: storage, offset, size, stride, requires_grad, no hooks, and no metadata that would change what the elements mean.</summary>
    public static TensorValue Rebuild(PickleValue[] arguments, ReadBudget budget, long offset)
    {
        if (arguments[4] is not BoolValue || arguments[5] is not DictValue { Items.Count: 0 } || arguments.Length > 7
            || (arguments.Length == 7 && arguments[6] is not (NoneValue or DictValue { Items.Count: 0 })))
        {
            throw ImportException.Unsupported("REDUCE of torch._utils._rebuild_tensor_v2", offset, "a tensor without hooks and metadata", "one that has some");
        }

        StorageValue storage = (StorageValue)arguments[0];
        long start = TensorBounds.Whole("storage offset", arguments[1], offset);
        long[] sizes = TensorBounds.Dimensions("tensor size", (TupleValue)arguments[2], offset);
        long[] strides = TensorBounds.Dimensions("tensor stride", (TupleValue)arguments[3], offset);
        return Create(storage, start, sizes, strides, budget, offset);
    }

    /// <summary>A view that is checked.</summary>
    public static TensorValue Create(StorageValue storage, long start, long[] sizes, long[] strides, ReadBudget budget, long offset)
    {
        TensorBounds.Check(storage.Root.Type, start, sizes, strides, storage.Elements, budget, offset);
        return new TensorValue(new ImportTensor(storage.Root, storage.Offset + start, sizes, strides));
    }

    /// <summary>Bytes of a storage's elements; -1 where 64 bits do not hold them.</summary>
    public static long BytesOf(ElementType type, long elements) => elements <= long.MaxValue / type.Bytes() ? elements * type.Bytes() : -1;
}
