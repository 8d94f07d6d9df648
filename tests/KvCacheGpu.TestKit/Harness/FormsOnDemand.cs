using ILGPU.Runtime;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>
/// A device's attention on tensor cores whose kernels are compiled at their first launch. A tier has those for blocks of four and of eight queries ready before its first
/// step; a test's step needs one of them, and each takes seconds.
/// </summary>
internal sealed class FormsOnDemand(ITensorForms forms) : ITensorForms
{
    public string? Refusal(KvGeometry geometry, PageLayout layout) => forms.Refusal(geometry, layout);

    public TensorForm Load(Accelerator accelerator, KvGeometry geometry, PageLayout layout, int blockQueries)
    {
        var form = new Lazy<TensorForm>(() => forms.Load(accelerator, geometry, layout, blockQueries));
        return new TensorForm(
            (stream, config, arena, batch, queries, partials, partialStats, call, dims) =>
                form.Value.Attend(stream, config, arena, batch, queries, partials, partialStats, call, dims),
            TensorKernels.Of(geometry, layout.KeyFormat, layout.ValueFormat, blockQueries).Warps);
    }

    public TensorForm? LoadMany(Accelerator accelerator, KvGeometry geometry, PageLayout layout) => forms.LoadMany(accelerator, geometry, layout);
}
