namespace KvCacheGpu.Import;

/// <summary>Reads a whole file of torch that lies within a pickle.</summary>
/// <param name="file">Its bytes.</param>
/// <param name="budget">The rest of the outer file's limits, which count for both.</param>
/// <param name="at">The byte in the outer file that asks for it.</param>
internal delegate PickleValue NestedFile(ByteSource file, ReadBudget budget, long at);

/// <summary>Carries out REDUCE and BUILD: the value that each known global makes of its arguments, and the state that an object takes.</summary>
/// <param name="budget">The rest of the limits.</param>
/// <param name="nested">Reads the file that lies as bytes within the stream; null if the stream lies within another one: then no third may lie in it.</param>
internal sealed class PickleCalls(ReadBudget budget, NestedFile? nested)
{
    /// <summary>REDUCE: calls a global.</summary>
    /// <param name="callable">The global.</param>
    /// <param name="arguments">A tuple of its arguments.</param>
    /// <param name="at">The opcode's byte in the file.</param>
    /// <exception cref="ImportException">The arguments are not those that the global's library writes.</exception>
    public PickleValue Reduce(PickleValue callable, PickleValue arguments, long at)
    {
        GlobalValue global = callable as GlobalValue ?? throw ImportException.Unexpected("REDUCE", at, "a global", callable);
        PickleValue[] a = arguments is TupleValue tuple ? tuple.Items : throw ImportException.Unexpected("REDUCE", at, "a tuple of arguments", arguments);
        return (global.Global, a) switch
        {
            (PickleGlobal.OrderedDict, []) => new DictValue { IsOrdered = true },
            (PickleGlobal.Bytes, []) => new BytesValue(new MemoryBytes(default)),
            (PickleGlobal.EncodeLatin1, [TextValue { IsLatin1: true } text, TextValue { Value: "latin1" }]) => new BytesValue(new Latin1Bytes(text.Value)),
            (PickleGlobal.ArrayReconstruct, [GlobalValue { Global: PickleGlobal.ArrayClass }, TupleValue { Items: [IntegerValue { Value: var zero }] }, BytesValue code])
                when zero == 0 && IsByte(code, (byte)'b') => new TensorValue(null),
            (PickleGlobal.ArrayScalar, [DtypeValue dtype, BytesValue bytes]) => NumpyArrays.Scalar(dtype, bytes, at),
            (PickleGlobal.ArrayFromBuffer, [BytesValue bytes, DtypeValue dtype, TupleValue shape, TextValue { Value: "C" or "F" } order]) =>
                new TensorValue(NumpyArrays.Create(bytes, dtype, shape, order.Value == "F", budget, at)),
            (PickleGlobal.ArrayDtype, [TextValue code, var align, var copy]) when IsFlag(align, false) && IsFlag(copy, true) => NumpyArrays.Dtype(code.Value, at),
            (PickleGlobal.TensorRebuildFirst, [StorageValue storage, var start, TupleValue size, TupleValue stride]) =>
                TorchTensors.View(storage, start, size, stride, budget, at),
            (PickleGlobal.TensorRebuild or PickleGlobal.TensorRebuildTyped, [StorageValue, _, TupleValue, TupleValue, BoolValue, DictValue, ..]) =>
                TorchTensors.Rebuild(global, a, budget, at),
            (PickleGlobal.TensorRebuildSubclass, [GlobalValue { Global: not PickleGlobal.TensorRebuildSubclass } rebuild, GlobalValue { Global: PickleGlobal.PlainTensor }, TupleValue inner, var state])
                when IsPlain(state) && Reduce(rebuild, inner, at) is TensorValue tensor => tensor,
            (PickleGlobal.ParameterRebuild, [TensorValue tensor, BoolValue, DictValue { Items.Count: 0 }]) => tensor,
            (PickleGlobal.ParameterRebuildWithState, [TensorValue tensor, BoolValue, DictValue { Items.Count: 0 }, var state]) when IsPlain(state) => tensor,
            (PickleGlobal.SizeClass, [TupleValue size]) => size,
            (PickleGlobal.DeviceClass, [TextValue] or [TextValue, IntegerValue]) => new InertValue(),
            (PickleGlobal.Layout, [TextValue]) => new InertValue(),
            (PickleGlobal.LoadFromBytes, [BytesValue bytes]) => nested is not null
                ? nested(bytes.Bytes, budget, at)
                : throw ImportException.Unsupported("REDUCE of torch.storage._load_from_bytes", at, "one torch file within a pickle", "one within that"),
            _ => throw ImportException.Unsupported($"REDUCE of {global.Name}", at, "the arguments that its library writes", $"{a.Length} others"),
        };
    }

    /// <summary>BUILD: gives an object its state.</summary>
    /// <param name="target">The object, which no container may hold yet.</param>
    /// <param name="state">The state.</param>
    /// <param name="at">The opcode's byte in the file.</param>
    /// <exception cref="ImportException">The object takes no such state.</exception>
    public void Build(PickleValue target, PickleValue state, long at)
    {
        if (target.IsHeld)
        {
            throw ImportException.Corrupt("BUILD", at, "a value that no container holds yet", "one that is held");
        }

        if (target is DictValue { IsOrdered: true } && state is DictValue)
        {
            // These are attributes of the dict, not entries: the versions of a model's parts.
            if (!IsPlain(state))
            {
                throw ImportException.Unsupported("BUILD", at, "attributes of an OrderedDict without tensors", "some that hold one");
            }

            return;
        }

        PickleValue[] s = state is TupleValue tuple ? tuple.Items : throw ImportException.Unexpected("BUILD", at, "a tuple", state);
        switch (target, s)
        {
            case (DtypeValue { IsBuilt: false } dtype, [IntegerValue { Value: var version }, TextValue { Value: "<" or ">" or "=" or "|" } order, NoneValue, NoneValue, NoneValue, ..]):
                if (version != 3 || s.Length != 8 || !IsInteger(s[5], -1) || !IsInteger(s[6], -1) || !IsInteger(s[7], 0))
                {
                    goto default;
                }

                (dtype.IsBuilt, dtype.IsBigEndian) = (true, order.Value == ">");
                break;
            case (TensorValue { Tensor: null } array, [IntegerValue { Value: var version }, TupleValue shape, DtypeValue dtype, BoolValue fortran, BytesValue bytes]) when version == 1:
                array.Tensor = NumpyArrays.Create(bytes, dtype, shape, fortran.Value, budget, at);
                break;
            default:
                throw ImportException.Unsupported("BUILD", at, "the state of a numpy array or dtype of plain numbers", PickleKeys.Describe(target));
        }
    }

    // Attributes that Python code has set on an object may be left out, but no tensor may.
    private static bool IsPlain(PickleValue state) => !state.HoldsTensor;

    private static bool IsByte(BytesValue value, byte expected)
    {
        if (value.Bytes.Length != 1)
        {
            return false;
        }

        Span<byte> only = [0];
        value.Bytes.Read(0, only);
        return only[0] == expected;
    }

    private static bool IsFlag(PickleValue value, bool expected) => value is BoolValue flag ? flag.Value == expected : IsInteger(value, expected ? 1 : 0);

    private static bool IsInteger(PickleValue value, int expected) => value is IntegerValue integer && integer.Value == expected;
}
