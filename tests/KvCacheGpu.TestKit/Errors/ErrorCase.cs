namespace KvCacheGpu.TestKit;

/// <summary>The keys, values and queries on which errors are measured: 4,096 tokens of width 128, 256 queries.</summary>
public sealed class ErrorCase
{
    /// <summary>Number of tokens.</summary>
    public const int Tokens = 4096;

    /// <summary>Head width.</summary>
    public const int Width = 128;

    private const int Queries = 256;

    private static readonly Dictionary<KeyKind, Lazy<ErrorCase>> Cases =
        Enum.GetValues<KeyKind>().ToDictionary(kind => kind, kind => new Lazy<ErrorCase>(() => new ErrorCase(kind)));

    private readonly double[][] _logits;
    private readonly float[][] _queries;

    private ErrorCase(KeyKind kind)
    {
        var gaussian = new Gaussian(20 + (int)kind);
        Keys = KeyGenerator.Keys(Tokens, Width, kind, gaussian);
        Values = KeyGenerator.Values(Tokens, Width, gaussian);
        _queries = QueryGenerator.Targeted(Keys, Queries, gaussian);
        _logits = Logits(Doubles(Keys));
    }

    /// <summary>The keys, exactly as encoders get them.</summary>
    public float[][] Keys { get; }

    /// <summary>The values.</summary>
    public float[][] Values { get; }

    /// <summary>The case of a generator, made once.</summary>
    public static ErrorCase Of(KeyKind kind) => Cases[kind].Value;

    /// <summary>The error of the softmax over encoded keys: KL(exact || encoded) in nats, the mean over the queries.</summary>
    public double Divergence(double[][] keys)
    {
        double[][] encoded = Logits(keys);
        double sum = 0;
        for (int q = 0; q < Queries; q++)
        {
            (double exact, double got) = (LogSumExp(_logits[q]), LogSumExp(encoded[q]));
            for (int t = 0; t < Tokens; t++)
            {
                double logProbability = _logits[q][t] - exact;
                sum += Math.Exp(logProbability) * (logProbability - (encoded[q][t] - got));
            }
        }

        return sum / Queries;
    }

    /// <summary>The error of the output with encoded values under the exact softmax: || got - exact || / || exact ||, the mean over the queries.</summary>
    public double OutputError(double[][] values)
    {
        double sum = 0;
        for (int q = 0; q < Queries; q++)
        {
            double total = LogSumExp(_logits[q]);
            var (exact, error) = (new double[Width], new double[Width]);
            for (int t = 0; t < Tokens; t++)
            {
                double weight = Math.Exp(_logits[q][t] - total);
                for (int e = 0; e < Width; e++)
                {
                    exact[e] += weight * Values[t][e];
                    error[e] += weight * (values[t][e] - Values[t][e]);
                }
            }

            sum += Math.Sqrt(error.Sum(x => x * x) / exact.Sum(x => x * x));
        }

        return sum / Queries;
    }

    /// <summary>Converts singles to doubles.</summary>
    public static double[][] Doubles(float[][] vectors) => [.. vectors.Select(v => v.Select(x => (double)x).ToArray())];

    private double[][] Logits(double[][] keys)
    {
        double[][] queries = Doubles(_queries);
        return [.. queries.Select(query => keys.Select(key => Dot(query, key) / Math.Sqrt(Width)).ToArray())];
    }

    private static double Dot(double[] a, double[] b)
    {
        var sum = System.Numerics.Vector<double>.Zero;
        for (int e = 0; e < a.Length; e += System.Numerics.Vector<double>.Count)
        {
            sum += new System.Numerics.Vector<double>(a, e) * new System.Numerics.Vector<double>(b, e);
        }

        return System.Numerics.Vector.Sum(sum);
    }

    private static double LogSumExp(double[] logits)
    {
        double largest = logits.Max();
        return largest + Math.Log(logits.Sum(l => Math.Exp(l - largest)));
    }
}
