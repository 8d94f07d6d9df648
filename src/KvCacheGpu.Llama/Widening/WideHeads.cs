namespace KvCacheGpu.Llama;

/// <summary>The linear maps from a model's heads to wider ones that compute the same.</summary>
internal sealed class WideHeads
{
    private const int OutlierPairs = 2;

    // Outliers lie in pairs of the slowest quarter, as in large models: fast pairs, which turn within few tokens, cannot hold what lasts.
    private const int SlowShare = 4;

    private readonly int _group;
    private readonly int _width;
    private readonly int _wide;
    private readonly double _outliers;
    private readonly Head[][] _heads;

    /// <summary>Draws the maps of all layers and KV heads.</summary>
    /// <param name="config">The model's shape.</param>
    /// <param name="widening">The width of the new heads, the factor of outliers and the seed.</param>
    public WideHeads(LlamaConfig config, HeadWidening widening)
    {
        _group = config.QueryHeads / config.KvHeads;
        (_width, _wide, _outliers) = (config.HeadWidth, widening.HeadWidth, widening.Outliers);
        Random random = new(widening.Seed);
        _heads = [.. Enumerable.Range(0, config.Layers).Select(_ => Enumerable.Range(0, config.KvHeads).Select(_ => Draw(random)).ToArray())];
    }

    /// <summary>The rows of the query projection, or its bias.</summary>
    /// <param name="layer">The layer.</param>
    /// <param name="rows">Rows of all query heads, <c>[query heads][w][columns]</c>; a bias has one column.</param>
    /// <returns><c>[query heads][W][columns]</c>.</returns>
    public float[] Queries(int layer, float[] rows) => Pairs(layer, rows, _group, Math.Sqrt((double)_wide / _width), 1 / _outliers);

    /// <summary>The rows of the key projection, or its bias: <c>[KV heads][w][columns]</c> to <c>[KV heads][W][columns]</c>.</summary>
    public float[] Keys(int layer, float[] rows) => Pairs(layer, rows, 1, 1, _outliers);

    /// <summary>The rows of the value projection, or its bias: <c>[KV heads][w][columns]</c> to <c>[KV heads][W][columns]</c>.</summary>
    public float[] Values(int layer, float[] rows)
    {
        int columns = rows.Length / (_heads[layer].Length * _width);
        float[] wide = new float[rows.Length / _width * _wide];
        double[] sums = new double[columns];
        for (int row = 0; row < wide.Length / columns; row++)
        {
            (int head, int i) = Math.DivRem(row, _wide);
            double[] map = _heads[layer][head].ValueMap[i];
            Array.Clear(sums);
            for (int e = 0; e < _width; e++)
            {
                ReadOnlySpan<float> source = rows.AsSpan(((head * _width) + e) * columns, columns);
                for (int c = 0; c < columns; c++)
                {
                    sums[c] += map[e] * source[c];
                }
            }

            for (int c = 0; c < columns; c++)
            {
                wide[(row * columns) + c] = (float)sums[c];
            }
        }

        return wide;
    }

    /// <summary>The output projection, which undoes the map of the values: <c>[hidden][query heads][w]</c> to <c>[hidden][query heads][W]</c>.</summary>
    public float[] Outputs(int layer, float[] matrix)
    {
        float[] wide = new float[matrix.Length / _width * _wide];
        int queryHeads = _heads[layer].Length * _group;
        for (int part = 0; part < matrix.Length / _width; part++)
        {
            double[][] map = _heads[layer][part % queryHeads / _group].ValueMap;
            for (int i = 0; i < _wide; i++)
            {
                double sum = 0;
                for (int e = 0; e < _width; e++)
                {
                    sum += map[i][e] * matrix[(part * _width) + e];
                }

                wide[(part * _wide) + i] = (float)sum;
            }
        }

        return wide;
    }

    // RoPE turns elements i and i + width/2 together.
    private float[] Pairs(int layer, float[] rows, int headsPerKvHead, double factor, double outlierFactor)
    {
        int heads = _heads[layer].Length * headsPerKvHead;
        int columns = rows.Length / (heads * _width);
        float[] wide = new float[rows.Length / _width * _wide];
        for (int row = 0; row < heads * _width; row++)
        {
            (int head, int element) = Math.DivRem(row, _width);
            (int half, int pair) = Math.DivRem(element, _width / 2);
            double scale = factor * (_heads[layer][head / headsPerKvHead].Outliers.Contains(pair) ? outlierFactor : 1);
            int target = ((head * _wide) + (half * _wide / 2) + (pair * _wide / _width)) * columns;
            for (int c = 0; c < columns; c++)
            {
                wide[target + c] = (float)(scale * rows[(row * columns) + c]);
            }
        }

        return wide;
    }

    private Head Draw(Random random)
    {
        int pairs = _width / 2;
        int slow = Math.Max(OutlierPairs, pairs / SlowShare);
        int[] chosen = [.. Enumerable.Range(pairs - slow, slow)];
        random.Shuffle(chosen);
        double[][] columns = new double[_width][];
        for (int c = 0; c < _width; c++)
        {
            columns[c] = [.. Enumerable.Range(0, _wide).Select(_ => Gaussian(random))];
            MakeOrthonormal(columns, c);
        }

        return new Head(chosen[..OutlierPairs], [.. Enumerable.Range(0, _wide).Select(i => columns.Select(column => column[i]).ToArray())]);
    }

    // Gram and Schmidt, twice, after which nothing is left of the other columns but the rounding of the last bit.
    private static void MakeOrthonormal(double[][] columns, int last)
    {
        double[] column = columns[last];
        for (int pass = 0; pass < 2; pass++)
        {
            for (int other = 0; other < last; other++)
            {
                double product = column.Zip(columns[other], (a, b) => a * b).Sum();
                for (int i = 0; i < column.Length; i++)
                {
                    column[i] -= product * columns[other][i];
                }
            }
        }

        double length = Math.Sqrt(column.Sum(x => x * x));
        for (int i = 0; i < column.Length; i++)
        {
            column[i] /= length;
        }
    }

    private static double Gaussian(Random random) => Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());

    /// <summary>The maps of one KV head.</summary>
    /// <param name="Outliers">The pairs of its outliers, as they are counted in the narrow head.</param>
    /// <param name="ValueMap">Orthonormal columns, <c>[W][w]</c>.</param>
    private sealed record Head(int[] Outliers, double[][] ValueMap);
}
