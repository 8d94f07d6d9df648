using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace KvCacheGpu.Kernels;

/// <summary>
/// A page's keys in one bit for each element: enough to tell which of a sequence's pages a query asks for without reading them. It lies in host memory beside the page.
/// </summary>
/// <remarks>
/// <code>
///   mean     f16[width']   of the page's keys; width' is the width rounded up to even
///   scales   f16[P']       one for each token; P' is P rounded up to even
///   signs    int32[W][P]   bit e % 32 of word e / 32 of token t at (e / 32) P + t: set where the element is not below the mean
///   (padding to 64 bytes)
/// </code>
/// All keys in the rotated basis without key scales, whatever format the page has. Of token t a key is about mean + scale x (1 or -1), with the scale sum x^2 / sum |x| of x = key - mean, so that the products with
/// the key itself are exact. mean and scales are saturated at 65504. Source: RaBitQ (Gao and Long 2024), with one mean a page in place of its centroids.
/// <para>Thread safety: it never changes.</para>
/// </remarks>
public sealed class KeySketch
{
    private const float Largest = 65504f;
    private const int WordBits = 32;

    // Queries that are multiplied at once.
    private const int AtOnce = 4;

    private readonly int _width;
    private readonly int _tokens;

    /// <summary>Lays out the sketches of a model's pages.</summary>
    public KeySketch(KvGeometry geometry)
    {
        ArgumentNullException.ThrowIfNull(geometry);
        (_width, _tokens) = (geometry.KeyWidth, geometry.PageTokens);
        ScaleOffset = (_width + 1) / 2;
        SignOffset = ScaleOffset + ((_tokens + 1) / 2);
        Words = SignOffset + ((_width + WordBits - 1) / WordBits * _tokens);
        Units = (Words + PageLayout.UnitWords - 1) / PageLayout.UnitWords;
    }

    /// <summary>First word of the scales.</summary>
    public int ScaleOffset { get; }

    /// <summary>First word of the signs.</summary>
    public int SignOffset { get; }

    /// <summary>Words of a sketch.</summary>
    public int Words { get; }

    /// <summary>Units of <see cref="PageLayout.UnitBytes"/> of a sketch.</summary>
    public int Units { get; }

    /// <summary>Makes a sketch.</summary>
    /// <param name="keys">The page's keys, <c>[tokens of a page][key width]</c>, in the plain basis; overwritten.</param>
    /// <param name="signs">The rotation's signs for the key width.</param>
    /// <param name="sketch">Receives it: <see cref="Words"/> words at least.</param>
    public void Make(Span<float> keys, ReadOnlySpan<float> signs, Span<int> sketch)
    {
        sketch[..Words].Clear();
        Span<Half> mean = MemoryMarshal.Cast<int, Half>(sketch[..ScaleOffset]);
        Span<Half> scales = MemoryMarshal.Cast<int, Half>(sketch[ScaleOffset..SignOffset]);
        for (int t = 0; t < _tokens; t++)
        {
            Rotation.Apply(keys.Slice(t * _width, _width), signs);
        }

        for (int e = 0; e < _width; e++)
        {
            float sum = 0f;
            for (int t = 0; t < _tokens; t++)
            {
                sum += keys[(t * _width) + e];
            }

            mean[e] = (Half)Saturated(sum / _tokens);
        }

        for (int t = 0; t < _tokens; t++)
        {
            (float squares, float sizes) = (0f, 0f);
            for (int e = 0; e < _width; e++)
            {
                float x = keys[(t * _width) + e] - (float)mean[e];
                squares += x * x;
                sizes += MathF.Abs(x);
                sketch[SignOffset + (e / WordBits * _tokens) + t] |= (x < 0f ? 0 : 1) << (e % WordBits);
            }

            scales[t] = (Half)(sizes == 0f ? 0f : Saturated(squares / sizes));
        }
    }

    /// <summary>The largest product of a query with one of a page's keys, as far as the sketch tells.</summary>
    /// <param name="sketch">The sketch.</param>
    /// <param name="queries">The queries in the rotated basis (<see cref="Rotation.Apply"/>), <c>[queries][key width]</c>.</param>
    /// <returns>-infinity if no product is a number.</returns>
    public float Score(ReadOnlySpan<int> sketch, ReadOnlySpan<float> queries)
    {
        Span<float> mean = stackalloc float[_width];
        Span<float> scales = stackalloc float[_tokens];
        Widen(sketch[..ScaleOffset], mean);
        Widen(sketch[ScaleOffset..SignOffset], scales);
        ReadOnlySpan<int> signs = sketch[SignOffset..Words];
        Span<float> centers = stackalloc float[AtOnce];
        Span<float> products = stackalloc float[AtOnce * Vector<float>.Count];
        int count = queries.Length / _width;
        float best = float.NegativeInfinity;
        for (int first = 0; first < count; first += AtOnce)
        {
            // Those beyond the last are the last again.
            ReadOnlySpan<float> a = Query(queries, first);
            ReadOnlySpan<float> b = Query(queries, Math.Min(first + 1, count - 1));
            ReadOnlySpan<float> c = Query(queries, Math.Min(first + 2, count - 1));
            ReadOnlySpan<float> d = Query(queries, Math.Min(first + 3, count - 1));
            (centers[0], centers[1], centers[2], centers[3]) = (Dot(a, mean), Dot(b, mean), Dot(c, mean), Dot(d, mean));
            for (int t = 0; t < _tokens;)
            {
                // The last tokens are taken together with some before them, once more.
                int at = Math.Max(0, Math.Min(t, _tokens - Vector<float>.Count));
                int some = Math.Min(_tokens - at, Vector<float>.Count);
                if (some == Vector<float>.Count)
                {
                    Multiply(signs[at..], a, b, c, d, products);
                }
                else
                {
                    MultiplyFew(signs, some, a, b, c, d, products);
                }

                for (int i = 0; i < products.Length; i++)
                {
                    int token = i % Vector<float>.Count;
                    float score = token < some ? centers[i / Vector<float>.Count] + (scales[at + token] * products[i]) : float.NegativeInfinity;
                    best = score > best ? score : best;
                }

                t = at + some;
            }
        }

        return best;
    }

    private static float Saturated(float x) => x >= -Largest ? x <= Largest ? x : Largest : x < 0f ? -Largest : Largest;

    private ReadOnlySpan<float> Query(ReadOnlySpan<float> queries, int query) => queries.Slice(query * _width, _width);

    private static void Widen(ReadOnlySpan<int> words, Span<float> numbers)
    {
        ReadOnlySpan<Half> halves = MemoryMarshal.Cast<int, Half>(words);
        for (int i = 0; i < numbers.Length; i++)
        {
            numbers[i] = (float)halves[i];
        }
    }

    private static float Dot(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        Vector<float> sums = Vector<float>.Zero;
        int i = 0;
        for (; i <= a.Length - Vector<float>.Count; i += Vector<float>.Count)
        {
            sums += new Vector<float>(a[i..]) * new Vector<float>(b[i..]);
        }

        float sum = Vector.Sum(sums);
        for (; i < a.Length; i++)
        {
            sum += a[i] * b[i];
        }

        return sum;
    }

    // Sums of the queries' elements, each with the sign that a token has, of as many tokens as there are lanes: [queries][lanes].
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Multiply(ReadOnlySpan<int> signs, ReadOnlySpan<float> a, ReadOnlySpan<float> b, ReadOnlySpan<float> c, ReadOnlySpan<float> d, Span<float> products)
    {
        (Vector<float> ofA, Vector<float> ofB, Vector<float> ofC, Vector<float> ofD) = (default, default, default, default);
        var top = new Vector<int>(int.MinValue);
        for (int e = 0; e < a.Length; e++)
        {
            // A bit that is not set turns the sign of the element.
            Vector<int> words = ~new Vector<int>(signs[(e / WordBits * _tokens)..]);
            Vector<int> turn = Vector.ShiftLeft(words, WordBits - 1 - (e % WordBits)) & top;
            ofA += Vector.AsVectorSingle(turn ^ Vector.AsVectorInt32(new Vector<float>(a[e])));
            ofB += Vector.AsVectorSingle(turn ^ Vector.AsVectorInt32(new Vector<float>(b[e])));
            ofC += Vector.AsVectorSingle(turn ^ Vector.AsVectorInt32(new Vector<float>(c[e])));
            ofD += Vector.AsVectorSingle(turn ^ Vector.AsVectorInt32(new Vector<float>(d[e])));
        }

        ofA.CopyTo(products);
        ofB.CopyTo(products[Vector<float>.Count..]);
        ofC.CopyTo(products[(2 * Vector<float>.Count)..]);
        ofD.CopyTo(products[(3 * Vector<float>.Count)..]);
    }

    // The same of fewer tokens than there are lanes.
    private void MultiplyFew(ReadOnlySpan<int> signs, int tokens, ReadOnlySpan<float> a, ReadOnlySpan<float> b, ReadOnlySpan<float> c, ReadOnlySpan<float> d, Span<float> products)
    {
        products.Clear();
        for (int t = 0; t < tokens; t++)
        {
            for (int e = 0; e < _width; e++)
            {
                float sign = ((signs[(e / WordBits * _tokens) + t] >> (e % WordBits)) & 1) != 0 ? 1f : -1f;
                products[t] += sign * a[e];
                products[Vector<float>.Count + t] += sign * b[e];
                products[(2 * Vector<float>.Count) + t] += sign * c[e];
                products[(3 * Vector<float>.Count) + t] += sign * d[e];
            }
        }
    }
}
