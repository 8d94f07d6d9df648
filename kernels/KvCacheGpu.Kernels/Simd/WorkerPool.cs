using System.Collections.Concurrent;
using System.Runtime.ExceptionServices;

namespace KvCacheGpu.Kernels;

/// <summary>A parallel loop's body. Kept and reused by its owner, so that a run allocates nothing.</summary>
/// <remarks>Thread safety: one loop runs it at a time, on several threads at once.</remarks>
public abstract class ParallelWork
{
    /// <summary>Does one item.</summary>
    /// <param name="item">The item, 0 to items - 1; each is done once.</param>
    /// <param name="worker">Who does it, 0 to <see cref="WorkerPool.Workers"/> - 1: an index into per-worker scratch.</param>
    public abstract void Do(int item, int worker);
}

/// <summary>
/// Threads that live as long as the pool and share out the items of one loop at a time. A caller that finds the pool at work
/// does its own items itself, as worker 0.
/// </summary>
/// <remarks>Thread safety: several threads may run loops at once; those that find it at work do their own.</remarks>
public sealed class WorkerPool : IDisposable
{
    // About 20 microseconds awake after work: a decode step's next loop comes within that time.
    private const int SpinsBeforeSleep = 200;

    // A ticket holds the run's number, its items, and how many were claimed: one increment claims an item of one run and no other.
    private const int ItemBits = 22;
    private const int RunShift = 2 * ItemBits;
    private const long ItemMask = (1L << ItemBits) - 1;

    private static readonly ConcurrentDictionary<int, Lazy<WorkerPool>> OfProcess = [];

    private readonly Lock _callers = new();
    private readonly object _sleep = new();
    private readonly Thread[] _threads;
    private ParallelWork? _work;
    private ExceptionDispatchInfo? _failure;
    private long _ticket;
    private int _done;
    private int _sleepers;
    private volatile bool _closed;

    /// <summary>Starts a pool.</summary>
    /// <param name="workers">Threads that do items, the caller's counted: at least 1.</param>
    public WorkerPool(int workers)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(workers, 1);
        Workers = workers;
        _threads = new Thread[workers - 1];
        for (int i = 0; i < _threads.Length; i++)
        {
            int worker = i + 1;
            _threads[i] = new Thread(() => Live(worker)) { IsBackground = true, Name = $"kvcache worker {worker}" };
            _threads[i].Start();
        }
    }

    /// <summary>The pool of all cores, shared by the process.</summary>
    public static WorkerPool Shared => Of(Environment.ProcessorCount);

    /// <summary>Threads that do items, the caller's counted.</summary>
    public int Workers { get; }

    /// <summary>The process's pool of so many workers, made when first asked for; it lives as long as the process and is not to be disposed.</summary>
    /// <param name="workers">Threads that do items, the caller's counted: at least 1.</param>
    public static WorkerPool Of(int workers) => OfProcess.GetOrAdd(workers, n => new Lazy<WorkerPool>(() => new WorkerPool(n))).Value;

    /// <summary>Does items 0 to <paramref name="items"/> - 1 and returns when all are done; the first exception of an item is thrown here.</summary>
    public void Run(ParallelWork work, int items)
    {
        ArgumentNullException.ThrowIfNull(work);
        if (items <= 1 || items > ItemMask / 2 || _threads.Length == 0 || !_callers.TryEnter())
        {
            for (int item = 0; item < items; item++)
            {
                work.Do(item, 0);
            }

            return;
        }

        try
        {
            Share(work, items);
        }
        finally
        {
            _callers.Exit();
        }
    }

    /// <summary>Ends the threads. Not to be called while a run is on.</summary>
    public void Dispose()
    {
        lock (_sleep)
        {
            _closed = true;
            Monitor.PulseAll(_sleep);
        }

        foreach (Thread thread in _threads)
        {
            thread.Join();
        }
    }

    private void Share(ParallelWork work, int items)
    {
        _work = work;
        _failure = null;
        _done = 0;
        long run = (_ticket >>> RunShift) + 1;
        Interlocked.Exchange(ref _ticket, (run << RunShift) | ((long)items << ItemBits));
        if (Volatile.Read(ref _sleepers) > 0)
        {
            lock (_sleep)
            {
                Monitor.PulseAll(_sleep);
            }
        }

        DoItems(0);

        // Items are waited for, not workers: one that wakes late finds nothing left and holds nobody up.
        var wait = default(SpinWait);
        while (Volatile.Read(ref _done) < items)
        {
            wait.SpinOnce(sleep1Threshold: -1);
        }

        _work = null;
        _failure?.Throw();
    }

    private void DoItems(int worker)
    {
        while (true)
        {
            long ticket = Interlocked.Increment(ref _ticket);
            int item = (int)(ticket & ItemMask) - 1;
            if (item >= (int)((ticket >>> ItemBits) & ItemMask))
            {
                return;
            }

            // The claimed item is not done, so the run is not over and its work is still the pool's.
            try
            {
                _work!.Do(item, worker);
            }
#pragma warning disable CA1031 // Whatever an item throws belongs to the caller of Run.
            catch (Exception exception)
#pragma warning restore CA1031
            {
                Interlocked.CompareExchange(ref _failure, ExceptionDispatchInfo.Capture(exception), null);
            }

            Interlocked.Increment(ref _done);
        }
    }

    private void Live(int worker)
    {
        long seen = 0;
        while (WaitForWork(ref seen))
        {
            DoItems(worker);
        }
    }

    private bool WaitForWork(ref long seen)
    {
        for (int spin = 0; spin < SpinsBeforeSleep; spin++)
        {
            if (RunNumber() != seen)
            {
                seen = RunNumber();
                return true;
            }

            Thread.SpinWait(10);
        }

        lock (_sleep)
        {
            // Counted before the run is read again: a caller either sees the sleeper or is seen by it.
            Interlocked.Increment(ref _sleepers);
            while (RunNumber() == seen && !_closed)
            {
                Monitor.Wait(_sleep);
            }

            Interlocked.Decrement(ref _sleepers);
            seen = RunNumber();
            return !_closed;
        }
    }

    private long RunNumber() => Interlocked.Read(ref _ticket) >>> RunShift;
}
