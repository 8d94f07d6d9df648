using System.Numerics;
using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Sums of the squares of queries, f32[layers][KV heads][key width]. Batches on several threads add to them, one after the other; an item is one KV head, so that sums do not
/// depend on the threads.
/// </summary>
internal sealed unsafe class QuerySums : ParallelWork, IDisposable
{
    private readonly KvGeometry _g;
    private readonly NativeBlock _memory;
    private readonly Lock _adding = new();
    private SimdBatch? _batch;
    private volatile bool _isOn;

    public QuerySums(KvGeometry geometry, AllocationObserver? observer)
    {
        _g = geometry;
        _memory = new NativeBlock((long)geometry.Layers * geometry.KvHeads * geometry.KeyWidth * sizeof(float), AllocationKind.Bookkeeping, observer);
    }

    /// <summary>True while queries are added; sums begin at zero when it is set.</summary>
    public bool IsOn
    {
        get => _isOn;
        set
        {
            lock (_adding)
            {
                if (value)
                {
                    All.Clear();
                }

                _isOn = value;
            }
        }
    }

    private Span<float> All => new(_memory.Pointer, (int)(_memory.Bytes / sizeof(float)));

    /// <summary>Adds the queries of a batch's call.</summary>
    public void Add(SimdBatch batch, WorkerPool pool)
    {
        lock (_adding)
        {
            if (_isOn)
            {
                _batch = batch;
                pool.Run(this, _g.KvHeads);
                _batch = null;
            }
        }
    }

    /// <summary>Copies the sums; those beyond binary32 are its largest number.</summary>
    public void Read(Span<float> squares)
    {
        lock (_adding)
        {
            All.CopyTo(squares);
        }

        foreach (ref float square in squares)
        {
            square = MathF.Min(square, float.MaxValue);
        }
    }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void Do(int item, int worker)
    {
        AttendCall call = _batch!.Call;
        float* sums = (float*)_memory.Pointer + ((((long)call.Layer * _g.KvHeads) + item) * _g.KeyWidth);
        float* room = stackalloc float[_g.KeyWidth];
        foreach (ref readonly RaggedSequence sequence in _batch.Sequences)
        {
            for (int query = 0; query < sequence.Tokens * _g.GroupSize; query++)
            {
                (int token, int member) = Math.DivRem(query, _g.GroupSize);
                int head = (item * _g.GroupSize) + member;
                float* elements = call.Queries.Floats(sequence.FirstToken + token, head);
                if (elements == null)
                {
                    call.Queries.Read(sequence.FirstToken + token, head, _g.KeyWidth, room);
                    elements = room;
                }

                AddSquares(elements, sums, _g.KeyWidth);
            }
        }
    }

    public void Dispose() => _memory.Dispose();

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddSquares(float* elements, float* sums, int width)
    {
        int i = 0;
        for (; i + Vector<float>.Count <= width; i += Vector<float>.Count)
        {
            Vector<float> x = Vector.Load(elements + i);
            ((x * x) + Vector.Load(sums + i)).Store(sums + i);
        }

        for (; i < width; i++)
        {
            sums[i] += elements[i] * elements[i];
        }
    }
}
