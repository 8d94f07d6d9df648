using ILGPU;
using ILGPU.Runtime;

namespace KvCacheGpu.Kernels;

internal delegate void ScatterLauncher(AcceleratorStream stream, KernelConfig config, ArrayView<int> arena, ArrayView<int> patches, int count);

internal delegate void TransferLauncher(
    AcceleratorStream stream, KernelConfig config, ArrayView<long> arena, ArrayView<long> host, ArrayView<int> list, TransferDims call);

internal delegate void SketchLauncher(
    AcceleratorStream stream, KernelConfig config, ArrayView<float> keys, ArrayView<int> list, ArrayView<int> host, ArrayView<float> signs, SketchDims call);

internal delegate void SketchScoreLauncher(
    AcceleratorStream stream,
    KernelConfig config,
    ArrayView<int> batch,
    ArrayView<int> host,
    ArrayView<int> list,
    ArrayView<float> scores,
    ArrayView<ushort> queries,
    ArrayView<float> signs,
    SketchQueries tensor,
    SketchDims call,
    KernelDims dims);

internal delegate void RotateLauncher(
    AcceleratorStream stream,
    KernelConfig config,
    ArrayView<int> batch,
    ArrayView<ushort> queries,
    ArrayView<float> target,
    ArrayView<float> signs,
    RotateDims call,
    KernelDims dims);

internal delegate void SumLauncher(
    AcceleratorStream stream,
    KernelConfig config,
    ArrayView<int> batch,
    ArrayView<ushort> queries,
    ArrayView<float> sums,
    TensorDims tensor,
    int layer,
    int tokens,
    KernelDims dims);

internal delegate void AppendLauncher(
    AcceleratorStream stream,
    KernelConfig config,
    ArrayView<int> arena,
    ArrayView<int> batch,
    ArrayView<ushort> keys,
    ArrayView<ushort> values,
    AppendDims call,
    KernelDims dims);

internal delegate void AttendLauncher(
    AcceleratorStream stream,
    KernelConfig config,
    ArrayView<int> arena,
    ArrayView<int> batch,
    ArrayView<ushort> queries,
    ArrayView<float> partials,
    ArrayView<float> partialStats,
    AttendDims call,
    KernelDims dims);

internal delegate void MergeLauncher(
    AcceleratorStream stream,
    KernelConfig config,
    ArrayView<int> arena,
    ArrayView<int> batch,
    ArrayView<float> partials,
    ArrayView<float> partialStats,
    ArrayView<ushort> output,
    ArrayView<float> logSumExp,
    ArrayView<float> signs,
    MergeDims merge,
    KernelDims dims);

internal delegate void ScoreLauncher(
    AcceleratorStream stream, KernelConfig config, ArrayView<int> arena, ArrayView<int> batch, float decay, int step, KernelDims dims);

internal delegate void ObserveLauncher(
    AcceleratorStream stream,
    KernelConfig config,
    ArrayView<int> arena,
    ArrayView<int> batch,
    ArrayView<ushort> queries,
    ArrayView<float> logSumExp,
    ObserveDims call,
    KernelDims dims);

internal delegate void SquareLauncher(
    AcceleratorStream stream,
    KernelConfig config,
    ArrayView<int> arena,
    ArrayView<int> moves,
    int pair,
    int score,
    PartDims part,
    ArrayView<float> signs,
    float norm);

internal delegate void CopyLauncher(
    AcceleratorStream stream,
    KernelConfig config,
    ArrayView<int> arena,
    ArrayView<int> moves,
    int pair,
    int digestWords,
    int lowExponent,
    int highExponent,
    PartDims from,
    PartDims to);

internal delegate void TranscodeLauncher(
    AcceleratorStream stream,
    KernelConfig config,
    ArrayView<int> arena,
    ArrayView<int> moves,
    int pair,
    PartDims from,
    PartDims to,
    ArrayView<float> signs,
    float norm);

internal delegate void MaterializeLauncher(
    AcceleratorStream stream,
    KernelConfig config,
    ArrayView<int> arena,
    ArrayView<int> reads,
    ReadDims call,
    PartDims part,
    ArrayView<float> signs,
    float norm,
    ArrayView<ushort> output);
