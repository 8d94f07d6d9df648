namespace KvCacheGpu.Import;

/// <summary>What a global may be. It is a token that stands for its name; nothing is ever looked up by it but the branch below that reads its arguments.</summary>
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
