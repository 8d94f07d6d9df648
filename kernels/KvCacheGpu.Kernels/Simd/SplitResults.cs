using System.Numerics;
using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>A query's softmax over some of its pages.</summary>
/// <param name="Maximum">Largest logit, raw.</param>
/// <param name="Sum">Sum of the powers of (logit - maximum).</param>
/// <param name="Exponent">The query's of <see cref="SoftmaxState.Exponent"/>.</param>
internal readonly record struct QueryState(float Maximum, float Sum, int Exponent);

/// <summary>
/// Places for the partial results of split rows. Workers take items in order and the parts of a row follow one another, so that no more rows are begun
/// and not done than there are workers, and one: they share as many places, however many rows a batch has.
/// </summary>
/// <remarks>
/// <code>
/// int32[rows] place of a row, or -1 | int32[places] arrivals at it | int32[places] free places, a stack | f32[places][segments][queries][3 + value width]
/// </code>
/// </remarks>
internal sealed unsafe class SplitPlaces
{
    private readonly Lock _taking = new();
    private readonly int* _placeOf;
    private readonly int* _arrivals;
    private readonly int* _free;
    private readonly float* _results;
    private readonly long _floats;
    private readonly int _rows;
    private readonly int _places;
    private readonly KvGeometry _geometry;
    private int _left;

    /// <param name="memory">Of so many <see cref="WordsFor"/>.</param>
    /// <param name="rows">(sequence, KV head)s of a batch, at most.</param>
    /// <param name="workers">Threads that do items.</param>
    /// <param name="segments">Parts of a row, at most.</param>
    /// <param name="geometry">The model's shape.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public SplitPlaces(float* memory, int rows, int workers, int segments, KvGeometry geometry)
    {
        (_rows, _places, _geometry, _floats) = (rows, workers + 1, geometry, FloatsPerPlace(segments, geometry));
        _placeOf = (int*)memory;
        _arrivals = _placeOf + rows;
        _free = _arrivals + _places;
        _results = (float*)(_free + _places);
        Clear();
    }

    public static long WordsFor(int rows, int workers, int segments, KvGeometry geometry) => rows + ((workers + 1) * WordsPerPlace(segments, geometry));

    /// <summary>Words of one place; each worker adds one.</summary>
    public static long WordsPerPlace(int segments, KvGeometry geometry) => 2 + FloatsPerPlace(segments, geometry);

    /// <summary>Frees every place.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Clear()
    {
        new Span<int>(_placeOf, _rows).Fill(-1);
        for (_left = 0; _left < _places; _left++)
        {
            _free[_left] = _left;
        }
    }

    /// <summary>The place of a row, which its first part that is done takes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public SplitResults Of(int row)
    {
        int place;
        lock (_taking)
        {
            place = _placeOf[row];
            if (place < 0)
            {
                // Only where parts failed, and so left their rows' places taken: a place that there is not lies in other memory.
                if (_left == 0)
                {
                    throw new InvalidOperationException($"expected at most {_places} split rows at once, got one more");
                }

                place = _placeOf[row] = _free[--_left];
                _arrivals[place] = 0;
            }
        }

        return new SplitResults(_results + (place * _floats), _arrivals + place, _geometry.GroupSize, _geometry.ValueWidth);
    }

    /// <summary>Gives a row's place back.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Free(int row)
    {
        lock (_taking)
        {
            _free[_left++] = _placeOf[row];
        }
    }

    private static long FloatsPerPlace(int segments, KvGeometry geometry) =>
        (long)geometry.GroupSize * segments * SplitResults.FloatsPerQuery(geometry.ValueWidth);
}

/// <summary>
/// The partial results of one (sequence, KV head) whose pages are split, f32[segments][queries][3 + stride]: softmax, and mean of the values.
/// </summary>
internal readonly unsafe struct SplitResults(float* memory, int* arrivals, int queries, int stride)
{
    public static int FloatsPerQuery(int stride) => stride + 3;

    /// <summary>Counts a part as done and returns how many are.</summary>
    public int Arrive() => Interlocked.Increment(ref *arrivals);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Put(int segment, int query, QueryState state, float* output, int width)
    {
        float* to = Query(segment, query);
        (to[0], to[1], to[2]) = (state.Maximum, state.Sum, state.Exponent);
        new Span<float>(output, width).CopyTo(new Span<float>(to + 3, width));
    }

    /// <summary>Merges a query's segments in their order, into the first's place.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public QueryState Merge(int segments, int query, int width, float logitFactor, out float* output)
    {
        float maximum = float.NegativeInfinity;
        for (int s = 0; s < segments; s++)
        {
            maximum = MathF.Max(maximum, Query(s, query)[0]);
        }

        var exponent = (int)Query(0, query)[2];
        double factor = Math.ScaleB(logitFactor, exponent);
        float sum = 0;
        for (int s = 0; s < segments; s++)
        {
            float* part = Query(s, query);
            part[1] *= part[1] > 0f ? (float)Math.Pow(2, (part[0] - maximum) * factor) : 0f;
            sum += part[1];
        }

        output = Query(0, query) + 3;
        for (int s = 0; s < segments; s++)
        {
            float* part = Query(s, query);
            Add(output, s > 0, part + 3, part[1] / sum, width);
        }

        return new QueryState(maximum, sum, exponent);
    }

    // to = from * share, added to the earlier contents if it keeps them. Both may be the same memory.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Add(float* to, bool keeps, float* from, float share, int width)
    {
        int i = 0;
        for (; i + Vector<float>.Count <= width; i += Vector<float>.Count)
        {
            ((keeps ? Vector.Load(to + i) : Vector<float>.Zero) + (Vector.Load(from + i) * share)).Store(to + i);
        }

        for (; i < width; i++)
        {
            to[i] = (keeps ? to[i] : 0f) + (from[i] * share);
        }
    }

    private float* Query(int segment, int query) => memory + ((((long)segment * queries) + query) * FloatsPerQuery(stride));
}
