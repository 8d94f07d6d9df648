using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace KvCacheGpu.Kernels;

/// <summary>Four queries as whole numbers of 16 bits: each is a step of its own times these, so that its largest element is as large as they get.</summary>
/// <remarks>
/// A query of width d comes within step sqrt(d / 12) of itself, and a step is 1/32767 of its largest element: within 3e-5 of its norm for a query of d equal elements, within
/// sqrt(d) of that for one that a single element makes up.
/// </remarks>
internal readonly unsafe struct PairQueries
{
    // Below this a query's products with any page are nothing beside a logit of 1.
    private const float LeastMagnitude = 1e-30f;

    private readonly float* _factors;

    /// <param name="pairs">int32[width / 2][4]</param>
    /// <param name="factors">f32[2][4]</param>
    public PairQueries(int* pairs, float* factors)
    {
        Pairs = pairs;
        _factors = factors;
    }

    /// <summary>Numbers of memory that four queries take.</summary>
    public static int WordsFor(int queryStride) => (queryStride / 2 * 4) + 8;

    /// <summary>Pairs of elements in the codec's order, those of four queries side by side.</summary>
    public int* Pairs { get; }

    /// <summary>f32[4]: what a sum of products of whole numbers is multiplied by.</summary>
    public float* Steps => _factors;

    /// <summary>f32[4]: what is added then: the query's sum times what each element has beyond its byte.</summary>
    public float* Offsets => _factors + 4;

    /// <summary>Rounds four queries.</summary>
    /// <param name="q">f32[width][4]</param>
    /// <param name="width">Elements, whole words of the codec.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Set<TKey>(float* q, int width)
        where TKey : struct, IPairKeys
    {
        Vector128<int> largest = default;
        for (int i = 0; i < 4 * width; i += 4)
        {
            // As integers magnitudes are ordered alike, NaN on top.
            largest = Vector128.Max(largest, Vector128.Abs(Vector128.Load(q + i)).AsInt32());
        }

        // The largest number for which no sum of products leaves 32 bits.
        float most = Math.Min(short.MaxValue, int.MaxValue / (TKey.MostCode * width));
        Vector128<float> inverse = default, steps = default;
        for (int r = 0; r < 4; r++)
        {
            float magnitude = largest.AsSingle()[r];
            bool isFinite = float.IsFinite(magnitude);
            inverse = inverse.WithElement(r, isFinite && magnitude > LeastMagnitude ? most / magnitude : 0f);
            steps = steps.WithElement(r, isFinite ? magnitude / most : float.NaN);
        }

        int* pair = Pairs;
        Vector128<int> sum = default;
        for (int word = 0; word < width; word += 4 * TKey.Halves)
        {
            for (int half = 0; half < TKey.Halves; half++)
            {
                for (int odd = 0; odd < 2; odd++, pair += 4)
                {
                    float* first = q + (4 * (word + (TKey.Halves * odd) + half));
                    Vector128<int> low = Round(Vector128.Load(first) * inverse), high = Round(Vector128.Load(first + (8 * TKey.Halves)) * inverse);
                    ((low & Vector128.Create(0xFFFF)) | (high << 16)).Store(pair);
                    sum += low + high;
                }
            }
        }

        steps.Store(Steps);
        (Vector128.ConvertToSingle(sum) * steps * TKey.Offset).Store(Offsets);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<int> Round(Vector128<float> x) => Sse2.IsSupported ? Sse2.ConvertToVector128Int32(x) : Vector128.ConvertToInt32(Vector128.Round(x));
}
