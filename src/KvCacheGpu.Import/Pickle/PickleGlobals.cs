using System.Collections.Frozen;

namespace KvCacheGpu.Import;

/// <summary>The globals that are known, as exact pairs of module and name.</summary>
internal static class PickleGlobals
{
    private static readonly FrozenDictionary<(string Module, string Name), GlobalValue> _known = Known().ToFrozenDictionary(
        g => (g.Module, g.Name), g => new GlobalValue(g.Global, $"{g.Module}.{g.Name}", g.Type));

    /// <summary>The global of a pair.</summary>
    /// <exception cref="ImportException">E009: the pair is not known.</exception>
    public static GlobalValue Find(string module, string name, long offset) => _known.TryGetValue((module, name), out GlobalValue? global)
        ? global
        : throw ImportException.Unsupported($"global {module}.{name}", offset, Instead(module), "one that is not known here");

    // Says what people can save in place of objects that they save whole.
    private static string Instead(string module) => module switch
    {
        _ when IsWithin(module, "transformers") => "plain tensors, as cache.to_legacy_cache() gives them",
        _ when IsWithin(module, "torch.nn") => "plain tensors, as module.state_dict() gives them",
        _ => "a global of numpy arrays or torch tensors",
    };

    private static bool IsWithin(string module, string package) => module == package || module.StartsWith(package + ".", StringComparison.Ordinal);

    private static IEnumerable<(string Module, string Name, PickleGlobal Global, ElementType? Type)> Known()
    {
        yield return ("collections", "OrderedDict", PickleGlobal.OrderedDict, null);
        yield return ("_codecs", "encode", PickleGlobal.EncodeLatin1, null);

        // Protocol 2 writes Python 3's builtins by their names in Python 2.
        yield return ("builtins", "bytes", PickleGlobal.Bytes, null);
        yield return ("__builtin__", "bytes", PickleGlobal.Bytes, null);
        foreach (string core in new[] { "numpy.core", "numpy._core" })
        {
            yield return ($"{core}.multiarray", "_reconstruct", PickleGlobal.ArrayReconstruct, null);
            yield return ($"{core}.multiarray", "scalar", PickleGlobal.ArrayScalar, null);
            yield return ($"{core}.numeric", "_frombuffer", PickleGlobal.ArrayFromBuffer, null);
        }

        yield return ("numpy.numeric", "_frombuffer", PickleGlobal.ArrayFromBuffer, null);
        yield return ("numpy", "ndarray", PickleGlobal.ArrayClass, null);
        yield return ("numpy", "dtype", PickleGlobal.ArrayDtype, null);
        yield return ("torch._utils", "_rebuild_tensor", PickleGlobal.TensorRebuildFirst, null);
        yield return ("torch._utils", "_rebuild_tensor_v2", PickleGlobal.TensorRebuild, null);
        yield return ("torch._utils", "_rebuild_tensor_v3", PickleGlobal.TensorRebuildTyped, null);
        yield return ("torch._tensor", "_rebuild_from_type_v2", PickleGlobal.TensorRebuildSubclass, null);
        yield return ("torch._utils", "_rebuild_parameter", PickleGlobal.ParameterRebuild, null);
        yield return ("torch._utils", "_rebuild_parameter_with_state", PickleGlobal.ParameterRebuildWithState, null);
        yield return ("torch.storage", "_load_from_bytes", PickleGlobal.LoadFromBytes, null);
        yield return ("torch.storage", "UntypedStorage", PickleGlobal.StorageClass, ElementType.UInt8);
        yield return ("torch", "Size", PickleGlobal.SizeClass, null);
        yield return ("torch", "device", PickleGlobal.DeviceClass, null);
        yield return ("torch", "Tensor", PickleGlobal.PlainTensor, null);
        yield return ("torch.nn.parameter", "Parameter", PickleGlobal.PlainTensor, null);
        yield return ("torch.serialization", "_get_layout", PickleGlobal.Layout, null);
        foreach (ElementType type in new[] { ElementType.UInt16, ElementType.UInt32, ElementType.UInt64 })
        {
            yield return ("torch", type.Name(), PickleGlobal.TorchDtype, type);
        }

        // Types that no tensor may have here. A stream may name them without a tensor, as a model's settings do.
        foreach (string name in new[]
        {
            "complex32", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu",
            "qint8", "quint8", "qint32", "quint4x2", "quint2x4",
        })
        {
            yield return ("torch", name, PickleGlobal.TorchDtype, null);
        }

        foreach ((string name, ElementType type) in new[]
        {
            ("Half", ElementType.Float16), ("BFloat16", ElementType.BFloat16), ("Float", ElementType.Float32), ("Double", ElementType.Float64),
            ("Char", ElementType.Int8), ("Byte", ElementType.UInt8), ("Short", ElementType.Int16), ("Int", ElementType.Int32),
            ("Long", ElementType.Int64), ("Bool", ElementType.Bool),
        })
        {
            yield return ("torch", name + "Storage", PickleGlobal.StorageClass, type);
            yield return ("torch", name + "Tensor", PickleGlobal.TensorClass, type);
            yield return ("torch", type.Name(), PickleGlobal.TorchDtype, type);
        }
    }
}

/// <summary>The kinds of globals. Each is a token for a name; it only selects the branch that reads its arguments, and no code is ever looked up by it.</summary>
internal enum PickleGlobal
{
    OrderedDict,
    EncodeLatin1,
    Bytes,
    ArrayReconstruct,
    ArrayScalar,
    ArrayFromBuffer,
    ArrayClass,
    ArrayDtype,
    TensorRebuildFirst,
    TensorRebuild,
    TensorRebuildTyped,
    TensorRebuildSubclass,
    ParameterRebuild,
    ParameterRebuildWithState,
    LoadFromBytes,
    StorageClass,
    TensorClass,
    PlainTensor,
    SizeClass,
    DeviceClass,
    Layout,
    TorchDtype,
}
