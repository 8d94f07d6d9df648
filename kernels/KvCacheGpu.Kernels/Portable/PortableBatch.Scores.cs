using ILGPU;

namespace KvCacheGpu.Kernels;

/// <content>The launches that leave what pages are ranked by.</content>
internal sealed unsafe partial class PortableBatch
{
    /// <inheritdoc/>
    public override void Observe(int layer, KvTensor queries, int last)
    {
        ThrowIfNotALayer(layer);
        ThrowIfNotObservable(layer, _attended, last);
        KvGeometry g = _geometry;
        queries.ThrowIfNotShaped(_tokens, g.QueryHeads, g.KeyWidth, nameof(queries));
        _tier.Link.WaitFor(_queriesEpoch);
        int entries = MaxEntries(layer);
        float scale = 1f / MathF.Sqrt(g.KeyWidth);
        lock (_tier.Gate)
        {
            _tier.Enter();
            Input q = Bring(queries, g.QueryHeads, g.KeyWidth, _memory.PinnedQueries, 0, _memory.Input, ref _queriesEpoch);
            RotateFor(layer, q, scale);
            foreach (AttendForm form in _tier.Launchers.Of(layer))
            {
                int shared = ObserveKernel.SharedFloats(g, form.Map, _tier.GroupSize);
                var config = new KernelConfig(_count * g.KvHeads * entries, _tier.GroupSize, SharedMemoryConfig.RequestDynamic<float>(shared));
                bool isRotated = form.RotatesKeys;
                form.Observe(
                    _tier.Link.Stream,
                    config,
                    _tier.Arena,
                    _memory.Integers,
                    isRotated ? _memory.Rotated : q.View,
                    _memory.LogSumExp,
                    layer,
                    form.Classes,
                    entries,
                    last,
                    isRotated ? g.QueryHeads * g.KeyWidth : q.TokenStride,
                    isRotated ? g.KeyWidth : q.HeadStride,
                    isRotated ? 1f : scale,
                    _window,
                    form.Map,
                    _dims);
            }
        }
    }

    /// <inheritdoc/>
    public override void Score(float decay, int step)
    {
        ThrowIfNotALayer(0);
        lock (_tier.Gate)
        {
            _tier.Enter();
            var config = new KernelConfig(
                _count * _geometry.Layers * _geometry.KvHeads, _tier.GroupSize, SharedMemoryConfig.RequestDynamic<float>(_tier.GroupSize));
            _tier.Launchers.Score(_tier.Link.Stream, config, _tier.Arena, _memory.Integers, decay, step, _dims);
        }
    }
}
