using ILGPU;
using ILGPU.Runtime;

namespace KvCacheGpu.Kernels;

/// <summary>The launches of one step on a <see cref="PortableTier"/>. Per layer: one append, then one launch for each pair of formats and a merge.</summary>
internal sealed unsafe partial class PortableBatch : KernelBatch
{
    private readonly PortableTier _tier;
    private readonly KvGeometry _geometry;
    private readonly KernelDims _dims;
    private readonly BatchMemory _memory;
    private readonly RaggedSequence[] _sequences;
    private int _count;
    private int _tokens;
    private int _blocks;
    private int _rows;
    private int _window;
    private int _attended = -1;
    private long _integersEpoch;
    private long _pairsEpoch;
    private long _queriesEpoch;
    private bool _disposed;

    public PortableBatch(PortableTier tier, int maxSequences, int maxTokens)
    {
        _tier = tier;
        _geometry = tier.Shape.Geometry;
        _ = checked(_geometry.Layers * maxTokens * _geometry.KvHeads * 2);
        int segmentPages = Math.Max(1, tier.SegmentTokens / _geometry.PageTokens);
        _dims = new KernelDims(tier.Shape, tier.Map, segmentPages, maxSequences, maxTokens);
        _sequences = new RaggedSequence[maxSequences];
        int maxBlocks = KernelDims.MaxBlocks(maxSequences, maxTokens, _geometry.GroupSize);
        _memory = new BatchMemory(
            tier.Link, tier.Shape, _dims, tier.Launchers.MaxForms, tier.Launchers.RotatesKeys, maxBlocks, tier.PartialFloats);
    }

    /// <inheritdoc/>
    public override long ScratchBytes => _memory.DeviceBytes;

    /// <inheritdoc/>
    public override void Begin(ReadOnlySpan<RaggedSequence> sequences)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        ArgumentOutOfRangeException.ThrowIfZero(sequences.Length, nameof(sequences));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(sequences.Length, _sequences.Length, nameof(sequences));
        int tokens = 0;
        bool isSingleRow = _geometry.GroupSize == 1;
        foreach (RaggedSequence s in sequences)
        {
            bool isValid = (uint)s.Sequence < (uint)_tier.Shape.Sequences && s.Tokens >= 1 && s.Length >= s.Tokens && s.FirstToken >= 0;
            isValid &= (s.Length - 1) / _geometry.PageTokens < _tier.Shape.TableCapacity;
            if (!isValid || (long)s.FirstToken + s.Tokens > _dims.MaxTokens)
            {
                throw new ArgumentException($"expected a sequence slot below {_tier.Shape.Sequences} and tokens within {_dims.MaxTokens} and {_tier.Shape.TableCapacity} pages, got {s}", nameof(sequences));
            }

            tokens = Math.Max(tokens, s.FirstToken + s.Tokens);
            isSingleRow &= s.Tokens == 1;
        }

        sequences.CopyTo(_sequences);
        (_count, _tokens, _rows) = (sequences.Length, tokens, isSingleRow ? 1 : BatchMemory.BlockRows);
        _tier.Link.WaitFor(_integersEpoch);
        Describe();
        lock (_tier.Gate)
        {
            _tier.Enter();
            _integersEpoch = _tier.Link.Upload(_memory.PinnedIntegers, 0, _memory.Integers, _dims.BatchWords);
        }
    }

    /// <inheritdoc/>
    public override void Append(int layer, KvTensor keys, KvTensor values)
    {
        ThrowIfNotALayer(layer);
        KvGeometry g = _geometry;
        keys.ThrowIfNotShaped(_tokens, g.KvHeads, g.KeyWidth, nameof(keys));
        values.ThrowIfNotShaped(_tokens, g.KvHeads, g.ValueWidth, nameof(values));
        int valueFloats = (int)(_memory.PinnedPairs.Length - _memory.KeyFloats);
        _tier.Link.WaitFor(_pairsEpoch);
        lock (_tier.Gate)
        {
            _tier.Enter();
            Input k = Bring(keys, g.KvHeads, g.KeyWidth, _memory.PinnedPairs, 0, _memory.Input.SubView(0, _memory.KeyFloats), ref _pairsEpoch);
            Input v = Bring(
                values,
                g.KvHeads,
                g.ValueWidth,
                _memory.PinnedPairs,
                _memory.KeyFloats,
                _memory.Input.SubView(_memory.KeyFloats, valueFloats),
                ref _pairsEpoch);
            _tier.Launchers.Append(
                _tier.Link.Stream,
                new KernelConfig(_tokens * g.KvHeads, _tier.GroupSize),
                _tier.Arena,
                _memory.Integers,
                k.View,
                v.View,
                k.TokenStride,
                k.HeadStride,
                v.TokenStride,
                v.HeadStride,
                layer,
                _dims);
        }
    }

    /// <inheritdoc/>
    public override void Attend(int layer, KvTensor queries, Span<float> output, Span<float> logSumExp, int window = 0)
    {
        int rows = _tokens * _geometry.QueryHeads;
        ThrowIfShorter(output.Length, rows * _geometry.ValueWidth, nameof(output));
        ThrowIfShorter(logSumExp.IsEmpty ? rows : logSumExp.Length, rows, nameof(logSumExp));
        Enqueue(layer, queries, _memory.Output, window);
        lock (_tier.Gate)
        {
            _tier.Link.Accelerator.Bind();
            _tier.Link.Download(_memory.Output, _memory.PinnedOutput, 0, (long)rows * _geometry.ValueWidth);
            if (!logSumExp.IsEmpty)
            {
                _tier.Link.Download(_memory.LogSumExp, _memory.PinnedOutput, _memory.OutputFloats, rows);
            }
        }

        _tier.Link.Synchronize();
        Span<float> pinned = _memory.PinnedOutput.Span;
        pinned[..(rows * _geometry.ValueWidth)].CopyTo(output);
        if (!logSumExp.IsEmpty)
        {
            pinned.Slice(_memory.OutputFloats, rows).CopyTo(logSumExp);
        }
    }

    /// <inheritdoc/>
    public override void Attend(int layer, KvTensor queries, ArrayView<float> output, ArrayView<float> logSumExp, int window = 0)
    {
        int rows = _tokens * _geometry.QueryHeads;
        ThrowIfShorter(output.Length, (long)rows * _geometry.ValueWidth, nameof(output));
        bool isWanted = logSumExp.IsValid && logSumExp.Length > 0;
        ThrowIfShorter(isWanted ? logSumExp.Length : rows, rows, nameof(logSumExp));
        Enqueue(layer, queries, output, window);
        if (isWanted)
        {
            lock (_tier.Gate)
            {
                _tier.Link.Accelerator.Bind();
                _memory.LogSumExp.SubView(0, rows).CopyTo(_tier.Link.Stream, logSumExp.SubView(0, rows));
            }
        }
    }

    /// <inheritdoc/>
    public override NonFinite? End()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        lock (_tier.Gate)
        {
            _tier.Link.Accelerator.Bind();
            _tier.Link.Download(_memory.Integers, _memory.PinnedIntegers, 0, 1);
        }

        _tier.Link.Synchronize();
        int code = _memory.PinnedIntegers.Span[0];
        if (_count == 0 || code == int.MaxValue)
        {
            return null;
        }

        int vector = code / 2;
        int token = vector / _geometry.KvHeads;
        return new NonFinite(token / _dims.MaxTokens, token % _dims.MaxTokens, vector % _geometry.KvHeads, (code & 1) != 0);
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        lock (_tier.Gate)
        {
            if (!_disposed)
            {
                _disposed = true;
                _tier.Link.Synchronize();
                _memory.Dispose();
            }
        }
    }

    // The batch's integers, as KernelDims lays them out.
    private void Describe()
    {
        Span<int> words = _memory.PinnedIntegers.Span;
        words[0] = int.MaxValue;
        words.Slice(_dims.Owners, _tokens).Fill(-1);
        words.Slice(_dims.Windows, _geometry.Layers).Clear();
        _attended = -1;
        _blocks = 0;
        for (int i = 0; i < _count; i++)
        {
            RaggedSequence s = _sequences[i];
            int at = _dims.Sequences + (i * KernelDims.SequenceWords);
            (words[at], words[at + 1], words[at + 2], words[at + 3]) = (s.Sequence, s.FirstToken, s.Tokens, s.Length);
            words[at + 4] = s.KeepsStatistics ? -1 : s.Length - 1;
            words.Slice(_dims.Owners + s.FirstToken, s.Tokens).Fill(i);
            for (int row = 0; row < s.Tokens * _geometry.GroupSize; row += _rows)
            {
                at = KernelDims.Blocks + (_blocks++ * 2);
                (words[at], words[at + 1]) = (i, row);
            }
        }
    }

    private void Enqueue(int layer, KvTensor queries, ArrayView<float> output, int window)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(window);
        ThrowIfNotALayer(layer);
        KvGeometry g = _geometry;
        queries.ThrowIfNotShaped(_tokens, g.QueryHeads, g.KeyWidth, nameof(queries));
        _tier.Link.WaitFor(_queriesEpoch);
        int segments = Math.Min(Segments.Max, (MaxEntries(layer) + _dims.SegmentPages - 1) / _dims.SegmentPages);
        (_attended, _window) = (layer, window == 0 ? int.MaxValue : window);
        float scale = 1f / MathF.Sqrt(g.KeyWidth);
        lock (_tier.Gate)
        {
            _tier.Enter();
            Input q = Bring(queries, g.QueryHeads, g.KeyWidth, _memory.PinnedQueries, 0, _memory.Input, ref _queriesEpoch);
            RotateFor(layer, q, scale);
            int wave = Math.Max(1, _memory.Slots / (g.KvHeads * segments));
            for (int block = 0; block < _blocks; block += wave)
            {
                int items = Math.Min(wave, _blocks - block) * g.KvHeads;
                Split(layer, q, scale, block, items, segments, _window);
                Merge(layer, block, items, segments, output, _memory.LogSumExp);
            }
        }
    }

    private void RotateFor(int layer, Input q, float scale)
    {
        KvGeometry g = _geometry;
        bool rotates = false;
        foreach (AttendForm form in _tier.Launchers.Of(layer))
        {
            rotates |= form.RotatesKeys;
        }

        if (rotates)
        {
            var config = new KernelConfig(_tokens * g.QueryHeads, _tier.GroupSize, SharedMemoryConfig.RequestDynamic<float>(g.KeyWidth));
            _tier.Launchers.Rotate(
                _tier.Link.Stream,
                config,
                q.View,
                _memory.Rotated,
                q.TokenStride,
                q.HeadStride,
                g.QueryHeads,
                g.KeyWidth,
                scale,
                _tier.KeySigns.View,
                _tier.KeySigns.Norm);
        }
    }

    private void Split(int layer, Input q, float scale, int block, int items, int segments, int window)
    {
        KvGeometry g = _geometry;
        ReadOnlySpan<AttendForm> forms = _tier.Launchers.Of(layer);
        for (int launch = 0; launch < forms.Length; launch++)
        {
            AttendForm form = forms[launch];
            int shared = AttendKernel.SharedFloats(_rows, g, form.Map, _tier.GroupSize);
            var config = new KernelConfig(items * segments, _tier.GroupSize, SharedMemoryConfig.RequestDynamic<float>(shared));
            bool isRotated = form.RotatesKeys;
            long vectors = (long)launch * items * segments * _rows;
            long count = (long)items * segments * _rows;
            AttendLauncher attend = _rows == 1 ? form.One : form.Four;
            attend(
                _tier.Link.Stream,
                config,
                _tier.Arena,
                _memory.Integers,
                isRotated ? _memory.Rotated : q.View,
                _memory.Partials.SubView(vectors * g.ValueWidth, count * g.ValueWidth),
                _memory.PartialStats.SubView(vectors * AttendKernel.PartialWords, count * AttendKernel.PartialWords),
                layer,
                form.Classes,
                block,
                segments,
                isRotated ? g.QueryHeads * g.KeyWidth : q.TokenStride,
                isRotated ? g.KeyWidth : q.HeadStride,
                isRotated ? 1f : scale,
                window,
                form.Map,
                _dims);
        }
    }

    private void Merge(int layer, int block, int items, int segments, ArrayView<float> output, ArrayView<float> logSumExp)
    {
        ReadOnlySpan<AttendForm> forms = _tier.Launchers.Of(layer);
        int rotated = 0;
        for (int launch = 0; launch < forms.Length; launch++)
        {
            rotated |= forms[launch].RotatesValues ? 1 << launch : 0;
        }

        var merge = new MergeDims(_rows, block, segments, items * segments, forms.Length, rotated, _window);
        var config = new KernelConfig(
            items * _rows, _tier.GroupSize, SharedMemoryConfig.RequestDynamic<float>(2 * _geometry.ValueWidth));
        _tier.Launchers.Merge(
            _tier.Link.Stream,
            config,
            _tier.Arena,
            _memory.Integers,
            _memory.Partials,
            _memory.PartialStats,
            output,
            logSumExp,
            _tier.ValueSigns.View,
            _tier.ValueSigns.Norm,
            layer,
            merge,
            _dims);
    }

    // A bound for every row of the layer, also those that see only a part of the pages: segments grow with pages until there are Segments.Max.
    private int MaxEntries(int layer)
    {
        int pages = 1;
        for (int i = 0; i < _count; i++)
        {
            for (int head = 0; head < _geometry.KvHeads; head++)
            {
                pages = Math.Max(pages, _tier.Tables[_tier.Map.Row(_sequences[i].Sequence, layer, head)]);
            }
        }

        return pages;
    }

    // Host tensors pass through pinned memory; device tensors of binary32 are read where they lie, 16-bit ones are widened.
    private Input Bring(
        KvTensor tensor, int heads, int width, PageLockedArray1D<float> pinned, int at, ArrayView<float> device, ref long epoch)
    {
        int count = _tokens * heads * width;
        int headStride = tensor.HeadStride == 0 ? width : tensor.HeadStride;
        int tokenStride = tensor.TokenStride == 0 ? heads * headStride : tensor.TokenStride;
        if (!tensor.IsOnDevice)
        {
            HostPacking.Pack(tensor, _tokens, heads, width, pinned.Span[at..]);
            epoch = _tier.Link.Upload(pinned, at, device, count);
            return new Input(device, heads * width, width);
        }

        if (tensor.Stream is not null && tensor.Stream != _tier.Link.Stream)
        {
            tensor.Stream.Synchronize();
        }

        if (tensor.Type == TensorType.F32)
        {
            return new Input(tensor.Device.Cast<float>(), tokenStride, headStride);
        }

        var config = new KernelConfig((count + _tier.GroupSize - 1) / _tier.GroupSize, _tier.GroupSize);
        int isHalf = tensor.Type == TensorType.F16 ? 1 : 0;
        _tier.Launchers.Widen(_tier.Link.Stream, config, tensor.Device.Cast<ushort>(), device, isHalf, tokenStride, headStride, heads, width, count);
        return new Input(device, heads * width, width);
    }

    private void ThrowIfNotALayer(int layer)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (_count == 0)
        {
            throw new InvalidOperationException("expected Begin before a launch, got none");
        }

        ArgumentOutOfRangeException.ThrowIfNegative(layer);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(layer, _geometry.Layers);
    }

    private static void ThrowIfShorter(long length, long expected, string name)
    {
        if (length < expected)
        {
            throw new ArgumentException($"{name}: expected {expected} elements, got {length}", name);
        }
    }

    private readonly record struct Input(ArrayView<float> View, int TokenStride, int HeadStride);
}
