namespace KvCacheGpu;

/// <summary>
/// The queries that are expected, row by row: mean and variance of those seen, turned back to position 0, and turned on to the
/// mean of the positions to come. A step's own join once it is committed. Known as far as queries lie in host memory.
/// </summary>
/// <remarks>
/// Source: Expected Attention (Devoto et al. 2025), with a diagonal covariance and a running mean. A query head counts as one query of its group.
/// <code>
/// f32[rows][width] each:   mean q | mean q^2 | the step's sum of q | the step's sum of q^2
/// int32[rows] each:        queries in the means, at most Horizon | the step's
/// </code>
/// </remarks>
internal sealed unsafe class FutureQueries : IDisposable
{
    /// <summary>Tokens that the means go back, and positions that they are turned on to, as in the paper.</summary>
    public const int Horizon = 512;

    // Tokens of a step that are seen at most, evenly apart: a mean needs no more.
    private const int MostSeen = 64;

    // Elements count as this at most: squares of larger ones, summed up over a step, would be beyond binary32.
    private const float MostElement = 1e16f;

    private readonly double[] _frequencies;
    private readonly NativeInts _memory;
    private readonly int _rows;
    private readonly int _width;

    /// <param name="geometry">The model's shape, with its rope.</param>
    /// <param name="ledger">Told of the memory.</param>
    public FutureQueries(KvGeometry geometry, MemoryLedger ledger)
    {
        (_rows, _width) = (geometry.Layers * geometry.KvHeads, geometry.KeyWidth);
        _frequencies = geometry.Rope!.Frequencies(_width);
        _memory = new NativeInts(BookkeepingBytes(geometry) / sizeof(int), ledger);
    }

    private Span<int> Seen => new(_memory.Pointer + (4L * _rows * _width), _rows);

    private Span<int> SeenInStep => new(_memory.Pointer + (4L * _rows * _width) + _rows, _rows);

    public static long BookkeepingBytes(KvGeometry geometry) =>
        (long)geometry.Layers * geometry.KvHeads * ((4L * geometry.KeyWidth) + 2) * sizeof(float);

    /// <summary>Sees the queries of a step's tokens in a layer.</summary>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="layer">Layer.</param>
    /// <param name="firstToken">The sequence's first token in the tensor.</param>
    /// <param name="tokens">Its tokens.</param>
    /// <param name="position">Position of the first.</param>
    /// <param name="queries"><c>[tokens][query heads][key width]</c>, turned to their positions.</param>
    public void See(KvGeometry geometry, int layer, int firstToken, int tokens, int position, KvTensor queries)
    {
        if (queries.IsOnDevice)
        {
            return;
        }

        Span<float> room = stackalloc float[_width];
        Span<float> turned = stackalloc float[_width];
        Span<float> turns = stackalloc float[2 * _frequencies.Length];
        int stride = (tokens + MostSeen - 1) / MostSeen;
        for (int token = tokens - 1; token >= 0; token -= stride)
        {
            SetTurns(-(position + token), turns);
            for (int member = 0; member < geometry.QueryHeads; member++)
            {
                queries.Row(firstToken + token, member, geometry.QueryHeads, room).CopyTo(turned);
                foreach (ref float element in turned)
                {
                    element = float.IsFinite(element) ? Math.Clamp(element, -MostElement, MostElement) : float.NaN;
                }

                Turn(turned, turns);
                Add((layer * geometry.KvHeads) + (member / geometry.GroupSize), turned);
            }
        }
    }

    /// <summary>Adds what the step saw to the means.</summary>
    /// <param name="groupSize">Query heads of a row.</param>
    public void Join(int groupSize)
    {
        for (int row = 0; row < _rows; row++)
        {
            int seen = SeenInStep[row];
            if (seen == 0)
            {
                continue;
            }

            // The plain mean up to the horizon, an exponential one from then on.
            int known = Math.Min(Seen[row], Horizon * groupSize);
            float weight = (float)seen / (known + seen);
            Blend(Of(0, row), Of(2, row), weight, seen);
            Blend(Of(1, row), Of(3, row), weight, seen);
            Seen[row] = Math.Min(known + seen, Horizon * groupSize);
        }

        Forget();
    }

    /// <summary>Forgets what an abandoned step saw.</summary>
    public void Forget()
    {
        new Span<float>(_memory.Pointer + (2L * _rows * _width), 2 * _rows * _width).Clear();
        SeenInStep.Clear();
    }

    public void CopyFrom(FutureQueries other)
    {
        new Span<float>(other._memory.Pointer, 2 * _rows * _width).CopyTo(new Span<float>(_memory.Pointer, 2 * _rows * _width));
        other.Seen.CopyTo(Seen);
    }

    /// <summary>Writes mean and variance of the next <see cref="Horizon"/> queries, as far as they can be expected. Rows whose queries were never seen: unit variance around 0.</summary>
    /// <param name="position">The first one's position.</param>
    /// <param name="mean">[rows][width] overwritten.</param>
    /// <param name="variance">[rows][width] overwritten.</param>
    public void Foresee(int position, Span<float> mean, Span<float> variance)
    {
        Span<float> turns = stackalloc float[2 * _frequencies.Length];
        SetMeanTurns(position, turns);
        for (int row = 0; row < _rows; row++)
        {
            Span<float> m = mean.Slice(row * _width, _width);
            Span<float> v = variance.Slice(row * _width, _width);
            Of(0, row).CopyTo(m);
            ReadOnlySpan<float> squares = Of(1, row);
            for (int i = 0; i < _width; i++)
            {
                v[i] = Seen[row] == 0 ? 1 : Math.Max(0, squares[i] - (m[i] * m[i]));
            }

            Turn(m, turns);
            TurnVariance(v, turns);
        }
    }

    public void Dispose() => _memory.Dispose();

    private static void Blend(Span<float> mean, ReadOnlySpan<float> sum, float weight, int count)
    {
        for (int i = 0; i < mean.Length; i++)
        {
            mean[i] += weight * ((sum[i] / count) - mean[i]);
        }
    }

    // (a, b) -> (a cos - b sin, b cos + a sin).
    private static void Turn(Span<float> vector, ReadOnlySpan<float> turns)
    {
        int half = turns.Length / 2;
        for (int i = 0; i < half; i++)
        {
            (float a, float b) = (vector[i], vector[half + i]);
            vector[i] = (a * turns[i]) - (b * turns[half + i]);
            vector[half + i] = (b * turns[i]) + (a * turns[half + i]);
        }
    }

    private static void TurnVariance(Span<float> vector, ReadOnlySpan<float> turns)
    {
        int half = turns.Length / 2;
        for (int i = 0; i < half; i++)
        {
            (float a, float b) = (vector[i], vector[half + i]);
            (float c, float s) = (turns[i] * turns[i], turns[half + i] * turns[half + i]);
            vector[i] = (a * c) + (b * s);
            vector[half + i] = (b * c) + (a * s);
        }
    }

    private Span<float> Of(int part, int row) => new(_memory.Pointer + ((((long)part * _rows) + row) * _width), _width);

    private void Add(int row, ReadOnlySpan<float> query)
    {
        if (!float.IsFinite(Vectors.Square(query)))
        {
            return;
        }

        Vectors.Add(Of(2, row), query, 1);
        Span<float> squares = Of(3, row);
        for (int i = 0; i < query.Length; i++)
        {
            squares[i] += query[i] * query[i];
        }

        SeenInStep[row]++;
    }

    private void SetTurns(long position, Span<float> turns)
    {
        for (int i = 0; i < _frequencies.Length; i++)
        {
            (double sine, double cosine) = Math.SinCos(position * _frequencies[i]);
            (turns[i], turns[_frequencies.Length + i]) = ((float)cosine, (float)sine);
        }
    }

    // The mean of e^(ifp) over n positions from p0 on is e^(if(p0 + (n - 1) / 2)) sin(nf / 2) / (n sin(f / 2)).
    private void SetMeanTurns(long position, Span<float> turns)
    {
        for (int i = 0; i < _frequencies.Length; i++)
        {
            double f = _frequencies[i];
            double within = Math.Sin(f / 2);
            double length = within == 0 ? 1 : Math.Sin(Horizon * f / 2) / (Horizon * within);
            (double sine, double cosine) = Math.SinCos((position + ((Horizon - 1) / 2.0)) * f);
            (turns[i], turns[_frequencies.Length + i]) = ((float)(length * cosine), (float)(length * sine));
        }
    }
}
