using System.Numerics;
using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Runtime;

namespace KvCacheGpu.Kernels;

/// <summary>The launches of one step on a <see cref="PortableTier"/>. Per layer: one append, then one launch for each pair of formats and a merge.</summary>
internal sealed unsafe class PortableBatch : KernelBatch
{
    // Queries of a block that every form of attention takes.
    private const int FewQueries = 4;

    // A sequence's queries of a KV head from which on they are many.
    private const int LeastMany = 32;

    private static long _memories;

    private readonly long _number = Interlocked.Increment(ref _memories);
    private readonly BatchCapture _capture;
    private readonly PortableTier _tier;
    private readonly KvGeometry _geometry;
    private readonly KernelDims _dims;
    private readonly BatchMemory _memory;
    private readonly BatchInputs _inputs;
    private readonly AttendLaunches _launches;
    private readonly BatchSketches? _sketches;
    private readonly RaggedSequence[] _sequences;
    private readonly int _mostMoves;
    private readonly int _leastMany;
    private BatchExtent _extent;
    private int _tokens;
    private int _window;
    private int _segments;
    private int _attended = -1;
    private AcceleratorStream _stream;
    private int _moves;
    private long _finished = -1;
    private bool _disposed;

    public PortableBatch(PortableTier tier, int maxSequences, int maxTokens)
    {
        (_tier, _geometry, _stream) = (tier, tier.Shape.Geometry, tier.Link.Accelerator.DefaultStream);
        _ = checked(_geometry.Layers * maxTokens * _geometry.KvHeads * 2);
        var split = new WorkSplit(
            tier.Launchers.BlockQueries, Math.Max(1, tier.SegmentTokens / _geometry.PageTokens), tier.Launchers.HasTensorForms ? Segments.WarpShift : Segments.GroupShift);
        _leastMany = maxTokens * _geometry.GroupSize >= LeastMany && tier.Launchers.TakesManyQueries() ? LeastMany : int.MaxValue;
        _dims = new KernelDims(tier.Shape, tier.Map, split, maxSequences, maxTokens);
        _sequences = new RaggedSequence[maxSequences];
        _mostMoves = checked(_geometry.Layers * _geometry.KvHeads * ((maxTokens / _geometry.PageTokens) + maxSequences));
        _memory = new BatchMemory(tier.Link, tier.Shape, _dims, tier.Launchers, maxSequences, _mostMoves, tier.PartialFloats);
        _inputs = new BatchInputs(tier, _memory);
        _launches = new AttendLaunches(tier, _memory, _dims);
        _sketches = tier.Transfers is DeviceTransfers ? new BatchSketches(tier, _memory, _inputs, _launches.Scale, _dims) : null;
        _capture = new BatchCapture(tier);
    }

    /// <inheritdoc/>
    public override KvStepShape StepShape => new(
        _number, _tokens, SegmentsOfShape(), _tier.SumsQueries, _extent.Sequences, new BlockCounts(BlocksOf(_extent.Few), BlocksOf(_extent.Some), BlocksOf(_extent.Many)));

    /// <inheritdoc/>
    public override int? CapturesFrom => _capture.From;

    /// <inheritdoc/>
    public override long ScratchBytes => _memory.DeviceBytes;

    /// <inheritdoc/>
    public override void Begin(ReadOnlySpan<RaggedSequence> sequences, KvStream stream = default)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        ArgumentOutOfRangeException.ThrowIfZero(sequences.Length, nameof(sequences));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(sequences.Length, _sequences.Length, nameof(sequences));
        int tokens = 0;
        bool isSingle = _geometry.GroupSize == 1;
        foreach (RaggedSequence s in sequences)
        {
            bool isValid = (uint)s.Sequence < (uint)_tier.Shape.Sequences && s.Tokens >= 1 && s.Length >= s.Tokens && s.FirstToken >= 0;
            isValid &= (s.Length - 1) / _geometry.PageTokens < _tier.Shape.TableCapacity && (uint)s.KeyTable < KernelTier.KeyTables;
            if (!isValid || (long)s.FirstToken + s.Tokens > _dims.MaxTokens)
            {
                throw new ArgumentException(
                    $"expected a sequence slot below {_tier.Shape.Sequences}, tokens within {_dims.MaxTokens} and {_tier.Shape.TableCapacity} pages, and a key table below {KernelTier.KeyTables}, got {s}",
                    nameof(sequences));
            }

            tokens = Math.Max(tokens, s.FirstToken + s.Tokens);
            isSingle &= s.Tokens == 1;
        }

        sequences.CopyTo(_sequences);
        (_tokens, _moves, _segments, _finished) = (tokens, 0, 0, -1);
        lock (_tier.Gate)
        {
            _stream = _tier.StreamFor(stream);
            _sketches?.Begin(tokens, _stream);
            using DeviceBinding bound = _tier.Enter(_stream);
            _extent = Describe(_tier.Link.Staging.Reserve(_dims.BatchWords), sequences.Length, isSingle && !_tier.Launchers.HasTensorForms ? 1 : FewQueries);
            _tier.Link.Staging.Upload(_memory.Integers, _dims.BatchWords);
        }
    }

    /// <inheritdoc/>
    public override void Append(int layer, KvTensor keys, KvTensor values)
    {
        ThrowIfNotALayer(layer);
        KvGeometry g = _geometry;
        keys.ThrowIfNotShaped(_tokens, g.KvHeads, g.KeyWidth, nameof(keys));
        values.ThrowIfNotShaped(_tokens, g.KvHeads, g.ValueWidth, nameof(values));
        _capture.ThrowIfNotCapturable(keys, nameof(keys));
        _capture.ThrowIfNotCapturable(values, nameof(values));
        _inputs.WaitForPairs(keys, values);
        lock (_tier.Gate)
        {
            using EnqueueScope bound = _capture.Enter(_stream);
            ArrayView<ushort> keysFound = _inputs.Find(keys, nameof(keys));
            ArrayView<ushort> valuesFound = _inputs.Find(values, nameof(values));
            BatchInput k = _inputs.Keys(keys, keysFound, _tokens);
            BatchInput v = _inputs.Values(values, valuesFound, _tokens);
            _capture.NoteAppended();
            if (_tier.Launchers.OwnAppend is { } own && own.TryEnqueue(_tier.Link.Stream, _tier.Arena, _memory.Integers, new BatchPairs(layer, _tokens, k, v), _dims))
            {
                return;
            }

            _tier.Launchers.Append(
                _tier.Link.Stream,
                new KernelConfig(_tokens * g.KvHeads, _tier.GroupSize),
                _tier.Arena,
                _memory.Integers,
                k.View,
                v.View,
                new AppendDims(layer, k.Dims, v.Dims),
                _dims);
        }
    }

    /// <inheritdoc/>
    public override void Attend(int layer, KvTensor queries, KvOutput output, int window = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(window);
        ThrowIfNotALayer(layer);
        queries.ThrowIfNotShaped(_tokens, _geometry.QueryHeads, _geometry.KeyWidth, nameof(queries));
        int vectors = _tokens * _geometry.QueryHeads;
        output = output.First(vectors, _geometry.ValueWidth);
        _capture.ThrowIfNotCapturable(queries, nameof(queries));
        _capture.ThrowIfNotCapturable(output, nameof(output));
        _inputs.WaitForQueries(queries);
        int entries = _capture.From is null ? MaxEntries(layer) : _dims.PagesOfShape(_capture.Shape.Segments);
        lock (_tier.Gate)
        {
            using EnqueueScope bound = _capture.Enter(_stream);
            ArrayView<ushort> found = _inputs.Find(queries, nameof(queries));
            var target = new BatchOutput(output.IsOnDevice ? _tier.Views.Of(output, nameof(output)) : _memory.Output.Cast<ushort>(), output.Type);
            ArrayView<float> sums = output.IsOnDevice && output.HasLogSumExp ? _tier.Views.SumsOf(output, vectors) : default;
            (_attended, _window) = (layer, window == 0 ? int.MaxValue : window);
            _capture.NoteAttended(layer, window);
            BatchInput q = _inputs.Queries(queries, found, _tokens);
            _tier.QuerySums?.Enqueue(_memory.Integers, q, layer, _tokens, _dims);
            _inputs.Rotate(layer, q, _tokens, _launches.Scale, _dims);
            _launches.Attend(layer, q, _extent, new AttendedRows(entries, _window, _capture.From is not null), target);
            if (!output.IsOnDevice)
            {
                _tier.Link.Download(_memory.Output, _memory.PinnedOutput, 0, (output.Host.Length + sizeof(float) - 1) / sizeof(float));
                if (output.HasLogSumExp)
                {
                    _tier.Link.Download(_memory.LogSumExp, _memory.PinnedOutput, _memory.OutputFloats, output.HostLogSumExp.Length);
                }
            }
            else if (output.HasLogSumExp)
            {
                _memory.LogSumExp.SubView(0, vectors).CopyTo(_tier.Link.Stream, sums);
            }
        }

        if (!output.IsOnDevice)
        {
            _tier.Link.Synchronize();
            Span<float> pinned = _memory.PinnedOutput.Span;
            MemoryMarshal.AsBytes(pinned)[..output.Host.Length].CopyTo(output.Host);
            pinned.Slice(_memory.OutputFloats, output.HostLogSumExp.Length).CopyTo(output.HostLogSumExp);
        }
    }

    /// <inheritdoc/>
    public override SketchScorer? Sketches => _sketches;

    /// <inheritdoc/>
    public override void BeginCapture(int firstLayer, bool isByHost) => _capture.Begin(_stream, StepShape, firstLayer, isByHost);

    /// <inheritdoc/>
    public override KvStepGraph EndCapture(nint hosts = 0) => _capture.End(hosts);

    /// <inheritdoc/>
    public override void Replay(KvStepGraph graph) => _capture.Replay(graph, StepShape, _stream);

    /// <inheritdoc/>
    public override void Observe(int layer, KvTensor queries, int last)
    {
        ThrowIfWithoutStatistics(_tier.Shape);
        ThrowIfNotALayer(layer);
        ThrowIfNotObservable(layer, _attended, last);
        queries.ThrowIfNotShaped(_tokens, _geometry.QueryHeads, _geometry.KeyWidth, nameof(queries));
        _inputs.WaitForQueries(queries);
        lock (_tier.Gate)
        {
            using DeviceBinding bound = _tier.Enter(_stream);
            BatchInput q = _inputs.Queries(queries, _inputs.Find(queries, nameof(queries)), _tokens);
            _inputs.Rotate(layer, q, _tokens, _launches.Scale, _dims);
            _launches.Observe(layer, q, _extent, MaxEntries(layer), _window, last);
        }
    }

    /// <inheritdoc/>
    public override void Materialize(ReadOnlySpan<PageRead> reads, KvOutput keys, KvOutput values)
    {
        ThrowIfNotALayer(0);
        lock (_tier.Gate)
        {
            using DeviceBinding bound = _tier.Enter(_stream);
            _tier.Decode(reads, keys, values);
        }
    }

    /// <inheritdoc/>
    public override void ReadBack(KvTensor tensor, Span<byte> target) => _inputs.ReadBack(tensor, target, _stream);

    /// <inheritdoc/>
    public override void Write(KvOutput target, ReadOnlySpan<byte> output, ReadOnlySpan<float> logSumExp) => _inputs.Write(target, output, logSumExp, _stream);

    /// <inheritdoc/>
    public override void Score(float decay, int step)
    {
        ThrowIfWithoutStatistics(_tier.Shape);
        ThrowIfNotALayer(0);
        lock (_tier.Gate)
        {
            using DeviceBinding bound = _tier.Enter(_stream);
            var config = new KernelConfig(
                _extent.Sequences * _geometry.Layers * _geometry.KvHeads, _tier.GroupSize, SharedMemoryConfig.RequestDynamic<float>(_tier.GroupSize));
            _tier.Launchers.Score(_tier.Link.Stream, config, _tier.Arena, _memory.Integers, decay, step, _dims);
        }
    }

    /// <inheritdoc/>
    public override void Seal(ReadOnlySpan<PageMove> moves)
    {
        ThrowIfNotALayer(0);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(_moves + moves.Length, _mostMoves, nameof(moves));
        lock (_tier.Gate)
        {
            using DeviceBinding bound = _tier.Enter(_stream);
            _tier.Transcoder.Enqueue(_tier.Arena, moves, _memory.Outcome, 1 + (_moves * TranscodeKernels.MoveWords));
            _moves += moves.Length;
        }
    }

    /// <inheritdoc/>
    public override void Finish()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        lock (_tier.Gate)
        {
            _capture.Abandon();
            using DeviceBinding bound = _tier.Enter(_stream);
            _tier.Link.Download(_memory.Integers, _memory.Outcome, 0, 1);
            _finished = _tier.Link.Order.Leave();
        }
    }

    /// <inheritdoc/>
    public override bool HasFinished => _finished >= 0 && _tier.Link.HasEnded(_finished);

    /// <inheritdoc/>
    public override bool IsKept(int move) => _memory.Outcome.Span[1 + (move * TranscodeKernels.MoveWords) + TranscodeKernels.Kept] != 0;

    /// <inheritdoc/>
    public override NonFinite? End()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (_finished < 0)
        {
            Finish();
        }

        _tier.Link.WaitFor(_finished);
        int code = _memory.Outcome.Span[0];
        if (_extent.Sequences == 0 || code == int.MaxValue)
        {
            return null;
        }

        (int token, int head) = Math.DivRem(code / 2, _geometry.KvHeads);
        return new NonFinite(token / _dims.MaxTokens, token % _dims.MaxTokens, head, (code & 1) != 0);
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        lock (_tier.Gate)
        {
            if (!_disposed)
            {
                _disposed = true;
                _tier.Link.Finish();
                _sketches?.Dispose();
                _memory.Dispose();
            }
        }
    }

    // Writes the batch's integers, as KernelDims lays them out.
    private BatchExtent Describe(Span<int> words, int sequences, int fewQueries)
    {
        words[0] = int.MaxValue;
        words.Slice(_dims.Owners, _tokens).Fill(-1);
        words.Slice(_dims.Windows, _geometry.Layers).Clear();
        _attended = -1;
        for (int i = 0; i < sequences; i++)
        {
            RaggedSequence s = _sequences[i];
            int at = _dims.Sequences + (i * KernelDims.SequenceWords);
            (words[at], words[at + 1], words[at + 2], words[at + 3]) = (s.Sequence, s.FirstToken, s.Tokens, s.Length);
            words[at + 4] = s.KeepsStatistics || !_tier.Shape.HasStatistics ? -1 : s.Length - 1;
            words[at + 5] = _tier.KeyRow(s.KeyTable, row: 0);
            words.Slice(_dims.Owners + s.FirstToken, s.Tokens).Fill(i);
        }

        // A sequence's own queries choose its kernel, whose sums differ in their last bits: its result does not depend on the rest of the batch.
        int most = _tier.Launchers.BlockQueries;
        if (most == FewQueries)
        {
            return new BatchExtent(sequences, Divide(words, sequences, new BlockRun(0, 0, fewQueries), (0, int.MaxValue)), default, default);
        }

        BlockRun few = Divide(words, sequences, new BlockRun(0, 0, fewQueries), (0, FewQueries));
        BlockRun some = Divide(words, sequences, new BlockRun(few.Blocks, 0, most), (FewQueries, _leastMany - 1));
        return new BatchExtent(
            sequences, few, some, Divide(words, sequences, new BlockRun(few.Blocks + some.Blocks, 0, BatchLaunchers.ManyQueries), (_leastMany - 1, int.MaxValue)));
    }

    // Adds the blocks of the sequences with more than range.Above and at most range.Most queries.
    private BlockRun Divide(Span<int> words, int sequences, BlockRun run, (int Above, int Most) range)
    {
        int blocks = run.First;
        for (int i = 0; i < sequences; i++)
        {
            int queries = _sequences[i].Tokens * _geometry.GroupSize;
            for (int query = 0; query < queries && queries > range.Above && queries <= range.Most; query += run.Queries)
            {
                int at = KernelDims.Blocks + (blocks++ * 2);
                (words[at], words[at + 1]) = (i, query);
            }
        }

        return run with { Blocks = blocks - run.First };
    }

    // The longest table row of the layer: it bounds those queries too that see only a part of the pages, since segments grow with pages.
    private int MaxEntries(int layer)
    {
        int pages = 1;
        for (int i = 0; i < _extent.Sequences; i++)
        {
            for (int head = 0; head < _geometry.KvHeads; head++)
            {
                pages = Math.Max(pages, _tier.Tables[_tier.Map.CountWord(_sequences[i].Sequence, _tier.Map.Row(layer, head))]);
            }
        }

        return pages;
    }

    // Of all layers, rounded up to a power of two: a graph then fits while sequences grow. What lies behind the last page ends at once.
    private int SegmentsOfShape()
    {
        ThrowIfNotALayer(0);
        int pages = 1;
        for (int layer = 0; _segments == 0 && layer < _geometry.Layers; layer++)
        {
            pages = Math.Max(pages, MaxEntries(layer));
        }

        return _segments = _segments > 0 ? _segments : Math.Min(_dims.MaxSegments, (int)BitOperations.RoundUpToPowerOf2((uint)((pages + _dims.SegmentPages - 1) / _dims.SegmentPages)));
    }

    private static QueryBlocks BlocksOf(BlockRun run) => new(run.Blocks, run.Queries);

    private void ThrowIfNotALayer(int layer)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (_extent.Sequences == 0)
        {
            throw new InvalidOperationException("expected Begin before a launch, got none");
        }

        ArgumentOutOfRangeException.ThrowIfNegative(layer);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(layer, _geometry.Layers);
    }
}
