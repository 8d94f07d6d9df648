using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;

namespace KvCacheGpu.Kernels;

/// <summary>
/// The capture of a batch's launches into a graph of CUDA's. What is captured is apart from the order of the tier's work, since none of it runs: other threads enqueue meanwhile.
/// Launches keep their grids and parameters from replay to replay, so they are made for the shape of the batch, not for its lengths.
/// </summary>
internal sealed class BatchCapture(PortableTier tier)
{
    private readonly List<CapturedAttend> _attended = [];
    private CudaStream? _stream;
    private bool _isByHost;
    private int _first;
    private int _end;

    /// <summary>The shape that launches are captured for.</summary>
    public KvStepShape Shape { get; private set; }

    /// <summary>First layer of the capture that is under way; null if none is.</summary>
    public int? From => _stream is null ? null : _first;

    /// <summary>Begins. Everything that is enqueued on the stream from here on becomes part of the graph.</summary>
    /// <param name="stream">The batch's stream.</param>
    /// <param name="shape">The batch's shape.</param>
    /// <param name="firstLayer">The layer that is appended next.</param>
    /// <param name="isByHost">True if the host captures its stream by itself from here on.</param>
    /// <exception cref="StreamCaptureException">A capture is under way.</exception>
    /// <exception cref="NotSupportedException">No stream of CUDA's that can be captured.</exception>
    public void Begin(AcceleratorStream stream, KvStepShape shape, int firstLayer, bool isByHost)
    {
        if (stream is not CudaStream { StreamPtr: not 0 } cuda)
        {
            throw new NotSupportedException("CUDA cannot capture the default stream");
        }

        if (_stream is not null)
        {
            throw new StreamCaptureException("EndCapture of the capture that is under way", "another one");
        }

        lock (tier.Gate)
        {
            // The mark behind all work so far comes before the capture: other streams wait for it.
            using DeviceBinding bound = tier.Enter(cuda);
            tier.Link.Order.Leave();
            if (!isByHost)
            {
                CudaDriver.Current.BeginCapture(cuda.StreamPtr);
            }
        }

        _attended.Clear();
        (_stream, _isByHost, Shape, _first, _end) = (cuda, isByHost, shape, firstLayer, firstLayer);
    }

    /// <summary>Makes the batch's stream current for one call, until the result is disposed: apart from the order while it is captured. The caller holds the tier's lock.</summary>
    /// <exception cref="StreamCaptureException">The capture was broken off, or the host has not begun it; or a capture is under way of which nobody told.</exception>
    public EnqueueScope Enter(AcceleratorStream stream)
    {
        if (_stream is not { } captured)
        {
            return new EnqueueScope(tier.Enter(stream), apart: null);
        }

        DeviceBinding bound = tier.Link.Bind();
        if (!CudaDriver.Current.IsCapturing(captured.StreamPtr))
        {
            bound.Dispose();
            throw new StreamCaptureException("a stream that is being captured", _isByHost ? "one that the host does not capture" : "one whose capture was broken off");
        }

        tier.Link.Order.GoApart(captured);
        return new EnqueueScope(bound, tier.Link.Order);
    }

    /// <summary>Refuses, while a capture is under way, what a graph would read at another time than now, or behind another stream.</summary>
    /// <exception cref="NotSupportedException">A tensor in host memory, or one that another stream writes.</exception>
    public void ThrowIfNotCapturable(KvTensor tensor, string name)
    {
        if (_stream is not null && (!tensor.IsOnDevice || (!tensor.Stream.IsDefault && !StreamOrder.IsSame(tier.Link.Order.Resolve(tensor.Stream), _stream))))
        {
            throw new NotSupportedException($"{name} {(tensor.IsOnDevice ? "that another stream than the step's writes" : "in host memory")}, while the step is captured");
        }
    }

    /// <inheritdoc cref="ThrowIfNotCapturable(KvTensor, string)"/>
    public void ThrowIfNotCapturable(KvOutput output, string name)
    {
        if (_stream is not null && !output.IsOnDevice)
        {
            throw new NotSupportedException($"{name} in host memory, while the step is captured");
        }
    }

    /// <summary>Notes an append, if it is captured.</summary>
    public void NoteAppended() => _end++;

    /// <summary>Notes a call of attention, if it is captured.</summary>
    public void NoteAttended(int layer, int window)
    {
        if (_stream is not null)
        {
            _attended.Add(new CapturedAttend(layer, window));
        }
    }

    /// <summary>Ends, and makes the graph ready to be launched.</summary>
    /// <param name="hosts">The graph that the host has instantiated, where it captures by itself; else 0.</param>
    /// <exception cref="StreamCaptureException">No capture is under way, or one of the other kind; or a call that no graph can hold broke it off.</exception>
    public KvStepGraph End(nint hosts)
    {
        if (_stream is not { } stream)
        {
            throw new StreamCaptureException("BeginCapture before it", "none");
        }

        if (_isByHost == (hosts == 0))
        {
            throw new StreamCaptureException(
                _isByHost ? "the graph that the host has instantiated, since the host captures" : "no graph of the host's, since the cache captures", _isByHost ? "none" : "one");
        }

        _stream = null;
        var layers = new CapturedLayers(_first, _end, [.. _attended]);
        if (_isByHost)
        {
            return new KvStepGraph(Shape, layers, hosts, destroy: null);
        }

        using DeviceBinding bound = tier.Link.Bind();
        try
        {
            return new KvStepGraph(Shape, layers, CudaDriver.Current.EndCapture(stream.StreamPtr), Destroy);
        }
        catch (CudaException e)
        {
            throw new StreamCaptureException("calls that a graph can hold, all on the step's stream and on one thread", $"one that the driver refused: {e.Message}", e);
        }
    }

    /// <summary>Enqueues a graph behind all work so far.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="shape">The batch's shape.</param>
    /// <param name="stream">The batch's stream.</param>
    /// <exception cref="ArgumentException">The graph is for another shape.</exception>
    public void Replay(KvStepGraph graph, KvStepShape shape, AcceleratorStream stream)
    {
        if (graph.Shape != shape)
        {
            throw new ArgumentException($"expected a graph of the step's shape ({shape}), got one of another ({graph.Shape})", nameof(graph));
        }

        lock (tier.Gate)
        {
            using DeviceBinding bound = tier.Enter(stream);
            CudaDriver.Current.LaunchGraph(graph.Handle, ((CudaStream)stream).StreamPtr);
        }
    }

    /// <summary>Breaks off the capture that is under way, if any: the batch ends. A capture of the host's is the host's to end.</summary>
    public void Abandon()
    {
        if (_stream is not { } stream)
        {
            return;
        }

        _stream = null;
        if (!_isByHost && !tier.Accelerator.IsDisposed)
        {
            using DeviceBinding bound = tier.Link.Bind();
            CudaDriver.Current.AbandonCapture(stream.StreamPtr);
        }
    }

    // An accelerator that its owner has disposed took its graphs with it.
    private void Destroy(nint graph)
    {
        if (!tier.Accelerator.IsDisposed)
        {
            using DeviceBinding bound = tier.Link.Bind();
            CudaDriver.Current.DestroyGraph(graph);
        }
    }
}

/// <summary>The device is current on this thread, and a stream in use, until it is disposed.</summary>
/// <param name="bound">The device.</param>
/// <param name="apart">The order that the stream is apart from, because it is captured; null of a stream in the order.</param>
internal readonly ref struct EnqueueScope(DeviceBinding bound, StreamOrder? apart)
{
    private readonly DeviceBinding _bound = bound;

    public void Dispose()
    {
        apart?.GoApart(null);
        _bound.Dispose();
    }
}
