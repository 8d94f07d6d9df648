using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;

namespace KvCacheGpu.Kernels;

/// <summary>
/// The one order of a tier's work, whichever streams it is enqueued on: where work goes on on another stream, that one waits on the device for what the
/// stream before it has been given. So a freed slot is never written before the last launch that reads it has ended, and no thread waits.
/// </summary>
/// <remarks>
/// Epochs count what is enqueued. A mark is an event behind all work up to an epoch: by marks the host sees, without waiting, how far the device is.
/// Streams of hosts are touched only between <see cref="Use"/> and <see cref="Leave"/>: a host may destroy its stream after that, and the next one may have
/// the same handle. OpenCL has no events here: there a thread waits where streams change, and where a stream is left. ILGPU's CPU accelerator has done
/// everything when a call returns.
/// Thread safety: members may be called from any thread, with the accelerator bound.
/// </remarks>
internal sealed class StreamOrder : IDisposable
{
    /// <summary>The handle of CUDA that means another stream on each thread (CU_STREAM_PER_THREAD): events order it on the thread that records them.</summary>
    public const nint PerThread = 2;

    private readonly Lock _lock = new();
    private readonly Accelerator _accelerator;
    private readonly CudaDriver? _driver;
    private readonly Queue<(nint Event, long Epoch)> _marks = new();
    private readonly Stack<nint> _events = new();
    private readonly Dictionary<nint, CudaStream> _wrapped = [];
    private readonly nint _crossing;
    private AcceleratorStream? _current;
    private AcceleratorStream? _apart;
    private nint _last;
    private nint _beside;
    private long _epoch;
    private long _marked;
    private long _completed;

    public StreamOrder(Accelerator accelerator)
    {
        (_accelerator, _current) = (accelerator, accelerator.DefaultStream);
        if (accelerator is CudaAccelerator)
        {
            _driver = CudaDriver.Current;
            _crossing = _driver.CreateEvent();
        }
    }

    /// <summary>The stream that work is enqueued on.</summary>
    /// <exception cref="InvalidOperationException">None was chosen since the last was left.</exception>
    public AcceleratorStream Current => _apart ?? Volatile.Read(ref _current) ?? throw new InvalidOperationException("expected a stream that is in use, got none");

    /// <summary>True if both are the same stream of the device.</summary>
    public static bool IsSame(AcceleratorStream one, AcceleratorStream other) =>
        one == other || (one is CudaStream a && other is CudaStream b && a.StreamPtr == b.StreamPtr);

    /// <summary>ILGPU's object for a stream of the host's; the accelerator's default stream for the default value.</summary>
    /// <exception cref="ArgumentException">It is a stream of another accelerator or context, or no stream of CUDA's on this device.</exception>
    /// <exception cref="ObjectDisposedException">It was disposed.</exception>
    public AcceleratorStream Resolve(KvStream stream)
    {
        if (stream.Stream is { } given)
        {
            ObjectDisposedException.ThrowIf(given.IsDisposed, given);
            return given.Accelerator == _accelerator
                ? given
                : throw new ArgumentException($"expected a stream of {_accelerator.Name}, on which the cache works, got one of {given.Accelerator.Name} by another accelerator", nameof(stream));
        }

        if (stream.CudaHandle is not { } handle || (handle == 0 && _driver is not null))
        {
            return _accelerator.DefaultStream;
        }

        if (_driver is null)
        {
            throw new ArgumentException($"expected a stream of ILGPU's for {_accelerator.Name}, got a handle of CUDA's", nameof(stream));
        }

        ThrowIfOfAnotherContext(handle);
        lock (_lock)
        {
            if (!_wrapped.TryGetValue(handle, out CudaStream? wrapped))
            {
                wrapped = ((CudaAccelerator)_accelerator).CreateStream(handle, responsible: false);
                _wrapped.Add(handle, wrapped);
            }

            return wrapped;
        }
    }

    /// <summary>Goes on with work on a stream, behind all that was enqueued before on any.</summary>
    /// <inheritdoc cref="ThrowIfCaptured" path="/exception"/>
    public void Use(AcceleratorStream stream)
    {
        ThrowIfCaptured(stream);
        lock (_lock)
        {
            if (_current is null || !IsSame(stream, _current))
            {
                if (_driver is not null)
                {
                    // The last mark is behind all work: streams are in one order. What was left has its mark, and may be gone.
                    Mark();
                    if (_marked > _completed)
                    {
                        _driver.Wait(Handle(stream), _last);
                    }
                }
                else
                {
                    WaitForCurrent();
                }
            }

            if (_beside != 0)
            {
                _driver!.Wait(Handle(stream), _beside);
                _beside = 0;
            }

            Volatile.Write(ref _current, stream);
            _epoch++;
        }
    }

    /// <summary>Makes a stream that runs beside the order wait on the device for the work of an epoch.</summary>
    public void Hold(AcceleratorStream beside, long epoch)
    {
        lock (_lock)
        {
            if (EventOf(epoch) is { } wanted)
            {
                _driver!.Wait(Handle(beside), wanted);
            }
        }
    }

    /// <summary>Makes all work that is enqueued from here on wait on the device for an event of a stream beside the order.</summary>
    public void FollowFrom(nint beside)
    {
        lock (_lock)
        {
            _beside = beside;
        }
    }

    /// <summary>Refuses a stream whose work becomes part of a graph. CUDA captures no default stream.</summary>
    /// <exception cref="StreamCaptureException">It is being captured.</exception>
    public void ThrowIfCaptured(AcceleratorStream stream)
    {
        if (stream is CudaStream { StreamPtr: not 0 } cuda && _driver!.IsCaptured(cuda.StreamPtr))
        {
            throw new StreamCaptureException("a stream that nobody captures, or BeginCapture of the step before", "one that is being captured");
        }
    }

    /// <summary>
    /// Enqueues on a stream that is being captured, until null is given: apart from the order, which stays as it is, since nothing of that runs. The caller holds the tier's lock
    /// from the one call to the other.
    /// </summary>
    public void GoApart(AcceleratorStream? captured) => _apart = captured;

    /// <summary>Orders the current stream behind what a host has enqueued on another of its streams until now.</summary>
    public void After(AcceleratorStream other)
    {
        if (IsSame(other, Current))
        {
            return;
        }

        if (_driver is null)
        {
            other.Synchronize();
            return;
        }

        lock (_lock)
        {
            _driver.Record(_crossing, Handle(other));
            _driver.Wait(Handle(_current!), _crossing);
        }
    }

    /// <summary>Counts a copy or launch that someone may wait for.</summary>
    /// <returns>Its epoch.</returns>
    public long Count()
    {
        lock (_lock)
        {
            return ++_epoch;
        }
    }

    /// <summary>Puts a mark behind all work so far. A thread that waits does so beside others that enqueue: what they enqueue then is of the next epoch.</summary>
    /// <returns>The epoch that has ended once the device comes to the mark.</returns>
    public long Mark()
    {
        lock (_lock)
        {
            if (_driver is null)
            {
                _completed = _accelerator.AcceleratorType == AcceleratorType.CPU ? _epoch : _completed;
            }
            else if (_current is null)
            {
                return _marked;
            }
            else
            {
                Poll();
                nint made = _events.TryPop(out nint free) ? free : _driver.CreateEvent();
                _driver.Record(made, Handle(_current));
                _marks.Enqueue((made, _epoch));
                _last = made;
            }

            _marked = _epoch++;
            return _marked;
        }
    }

    /// <summary>Puts a mark behind all work so far, and leaves the stream to its host.</summary>
    /// <returns>The epoch that has ended once the device comes to the mark.</returns>
    public long Leave()
    {
        lock (_lock)
        {
            long epoch = Mark();
            if (_driver is null && epoch > _completed)
            {
                WaitForCurrent();
            }

            Volatile.Write(ref _current, null);
            return epoch;
        }
    }

    /// <summary>True if the work of an epoch has ended, as far as can be seen without waiting.</summary>
    public bool HasEnded(long epoch)
    {
        lock (_lock)
        {
            Poll();
            return epoch <= _completed;
        }
    }

    /// <summary>Waits on this thread until the work of an epoch has ended.</summary>
    public void WaitFor(long epoch)
    {
        nint? wanted;
        lock (_lock)
        {
            wanted = EventOf(epoch);
            if (wanted is null)
            {
                return;
            }
        }

        // Outside of the lock, so that other threads go on. The event may be reused meanwhile: then it happens later, never sooner.
        _driver!.WaitFor(wanted.Value);
    }

    public void Dispose()
    {
        if (_driver is not null)
        {
            foreach (nint made in _events.Concat(_marks.Select(mark => mark.Event)).Append(_crossing))
            {
                _driver.DestroyEvent(made);
            }
        }
    }

    // The event of a mark behind an epoch; null if its work has ended, which devices without events are waited for.
    private nint? EventOf(long epoch)
    {
        Poll();
        if (epoch <= _completed)
        {
            return null;
        }

        if (_driver is null)
        {
            WaitForCurrent();
            return null;
        }

        if (epoch > _marked)
        {
            Mark();
        }

        nint wanted = 0;
        foreach ((nint mark, long of) in _marks)
        {
            wanted = mark;
            if (of >= epoch)
            {
                break;
            }
        }

        return wanted;
    }

    // Takes the marks that the device has come to.
    private void Poll()
    {
        while (_marks.TryPeek(out (nint Event, long Epoch) mark) && _driver!.HasHappened(mark.Event))
        {
            _completed = mark.Epoch;
            _events.Push(_marks.Dequeue().Event);
        }
    }

    private void WaitForCurrent()
    {
        _current?.Synchronize();
        _completed = _marked = _epoch;
    }

    private void ThrowIfOfAnotherContext(nint stream)
    {
        nint context;
        try
        {
            context = _driver!.ContextOf(stream);
        }
        catch (CudaException e)
        {
            throw new ArgumentException($"expected a CUDA stream, got a handle that the driver does not know: {e.Message}", nameof(stream), e);
        }

        if (context != _accelerator.NativePtr)
        {
            throw new ArgumentException($"expected a stream of the CUDA context in which the cache works on {_accelerator.Name}, got one of another context", nameof(stream));
        }
    }

    private static nint Handle(AcceleratorStream stream) => ((CudaStream)stream).StreamPtr;
}
