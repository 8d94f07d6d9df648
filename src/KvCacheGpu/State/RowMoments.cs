using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Running means of |q|^2 and |o|^2 over a sequence's rows, of the last token of each step; a step's own join them once it is committed.
/// Known as far as queries and outputs lie in host memory.
/// </summary>
/// <remarks>
/// <code>
/// f32[rows] each:   |q|^2 | |o|^2 | the step's |q|^2 | the step's |o|^2, negative: not seen
/// </code>
/// </remarks>
internal sealed unsafe class RowMoments : IDisposable
{
    // How much of the mean the newest step is.
    private const float Rate = 0.02f;
    private const float Unseen = -1;

    private readonly NativeInts _memory;
    private readonly int _rows;

    public RowMoments(KernelShape shape, MemoryLedger ledger)
    {
        _rows = shape.Geometry.Layers * shape.Geometry.KvHeads;
        _memory = new NativeInts(BookkeepingBytes(shape) / sizeof(int), ledger);
        All.Fill(Unseen);
    }

    /// <summary>Mean |q|^2 by row, negative where none was seen.</summary>
    public Span<float> Query => All[.._rows];

    /// <summary>Mean |o|^2 by row, negative where none was seen.</summary>
    public Span<float> Output => All.Slice(_rows, _rows);

    private Span<float> All => new(_memory.Pointer, 4 * _rows);

    private Span<float> Pending => All[(2 * _rows)..];

    public static long BookkeepingBytes(KernelShape shape) => 4L * shape.Geometry.Layers * shape.Geometry.KvHeads * sizeof(float);

    /// <summary>Sees the query of a step's token in a layer, and the output that it got.</summary>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="layer">Layer.</param>
    /// <param name="token">Token in the tensors.</param>
    /// <param name="queries"><c>[tokens][query heads][key width]</c>.</param>
    /// <param name="output"><c>[tokens][query heads][value width]</c>; not seen if it lies on the device.</param>
    public void See(KvGeometry geometry, int layer, int token, KvTensor queries, KvOutput output)
    {
        int group = geometry.GroupSize;
        Span<float> room = stackalloc float[Math.Max(geometry.KeyWidth, geometry.ValueWidth)];
        Span<float> query = room[..geometry.KeyWidth];
        Span<float> answer = room[..geometry.ValueWidth];
        for (int head = 0; head < geometry.KvHeads; head++)
        {
            (float asked, float got) = (0, 0);
            for (int member = head * group; member < (head + 1) * group; member++)
            {
                asked += queries.IsOnDevice ? 0 : Vectors.Square(queries.Row(token, member, geometry.QueryHeads, query));
                got += output.IsOnDevice ? 0 : Vectors.Square(output.Row((token * geometry.QueryHeads) + member, answer));
            }

            int row = (layer * geometry.KvHeads) + head;
            Pending[row] = queries.IsOnDevice ? Unseen : Mean(asked, group);
            Pending[_rows + row] = output.IsOnDevice ? Unseen : Mean(got, group);
        }
    }

    // Squares of numbers from 1e19 on are beyond binary32: they count as its largest number.
    private static float Mean(float sum, int count) => float.IsNaN(sum) ? Unseen : Math.Min(sum, float.MaxValue) / count;

    /// <summary>Adds what the step saw to the means.</summary>
    public void Join()
    {
        Span<float> pending = Pending;
        Span<float> means = All[..(2 * _rows)];
        for (int i = 0; i < pending.Length; i++)
        {
            if (pending[i] >= 0)
            {
                means[i] = means[i] < 0 ? pending[i] : means[i] + (Rate * (pending[i] - means[i]));
            }
        }

        Forget();
    }

    public void Forget() => Pending.Fill(Unseen);

    public void CopyFrom(RowMoments other) => other.All[..(2 * _rows)].CopyTo(All);

    public void Dispose() => _memory.Dispose();
}
