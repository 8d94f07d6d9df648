namespace KvCacheGpu.Serving.Tests;

/// <summary>
/// A model whose next token depends on every token before it and on their places, through the cache alone: a page that is lost, shared wrongly or out of place gives
/// other tokens. It takes some microseconds a token.
/// </summary>
internal sealed class ToyModel(int maxStepTokens = 64, int maxContextTokens = 4096) : IKvModel
{
    public const int Vocabulary = 61;
    public const int PageTokens = 8;
    private const int Layers = 2;
    private const int QueryHeads = 2;
    private const int Width = 16;

    private static readonly float[] Directions = Numbers(-1, Vocabulary * QueryHeads * Width);
    private readonly float[] _output = new float[maxStepTokens * QueryHeads * Width];

    public static KvGeometry Geometry { get; } = new(Layers, QueryHeads, 1, Width, pageTokens: PageTokens);

    public int VocabularySize => Vocabulary;

    public int MaxStepTokens => maxStepTokens;

    public int MaxContextTokens => maxContextTokens;

    public IReadOnlyCollection<int> EndTokens { get; init; } = [];

    /// <summary>A step that holds this token throws; -1 for none.</summary>
    public int Poison { get; init; } = -1;

    /// <summary>Is called before each step, with its tokens.</summary>
    public Action<int[], int[]>? BeforeStep { get; set; }

    /// <summary>The thread of the last step.</summary>
    public Thread? Thread { get; private set; }

    public int Steps { get; private set; }

    public int Tokens { get; private set; }

    public static KvCache NewCache(int tokens, int sequences = 64, Action<KvCacheOptions>? change = null)
    {
        KvCacheOptions options = new()
        {
            Device = "cpu",
            MaxTokens = tokens,
            MaxSequenceTokens = 4096,
            MaxSequences = sequences,
            MaxBatchTokens = 64,
            KeyFormat = PageFormat.F16,
            ValueFormat = PageFormat.F16,
            FullPrecision = PageFormat.F16,
        };
        change?.Invoke(options);
        return new KvCache(Geometry, options);
    }

    /// <summary>The greedy answer to a prompt that has a cache of its own.</summary>
    public static int[] Alone(IReadOnlyList<int> prompt, int newTokens, KvSampling? sampling = null, params int[] ends)
    {
        using KvCache cache = NewCache(prompt.Count + newTokens + 64, 1);
        ToyModel model = new();
        using KvSequence sequence = cache.CreateSequence();
        KvSampler sampler = new(sampling, prompt.ToArray());
        float[] logits = new float[Vocabulary];
        List<int> answer = [];
        int[] pending = [.. prompt];
        while (answer.Count < newTokens && !(answer.Count > 0 && ends.Contains(answer[^1])))
        {
            foreach (int[] chunk in pending.Chunk(64))
            {
                model.Forward([sequence], chunk, [chunk.Length], [chunk.Length - 1], logits);
            }

            answer.Add(sampler.Next(logits));
            pending = [answer[^1]];
        }

        return [.. answer];
    }

    public static int[] Prompt(int seed, int tokens)
    {
        Random random = new(seed);
        return [.. Enumerable.Range(0, tokens).Select(_ => random.Next(1, Vocabulary))];
    }

    public void Forward(
        ReadOnlySpan<KvSequence> sequences, ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, ReadOnlySpan<int> logitTokens, Span<float> logits)
    {
        BeforeStep?.Invoke(tokenIds.ToArray(), tokensPerSequence.ToArray());
        if (tokenIds.Contains(Poison))
        {
            throw new InvalidOperationException("poison");
        }

        Thread = Thread.CurrentThread;
        Steps++;
        Tokens += tokenIds.Length;
        int[] places = new int[tokenIds.Length];
        for (int s = 0, token = 0; s < sequences.Length; s++)
        {
            for (int i = 0; i < tokensPerSequence[s]; i++)
            {
                places[token++] = sequences[s].Length + i;
            }
        }

        logits.Clear();
        using KvStep step = sequences[0].Cache.Begin(sequences, tokenIds, tokensPerSequence);
        for (int layer = 0; layer < Layers; layer++)
        {
            float[] keys = All(tokenIds, places, (layer * 3) + 1, Width);
            float[] values = All(tokenIds, places, (layer * 3) + 2, Width);
            float[] queries = All(tokenIds, places, (layer * 3) + 3, QueryHeads * Width);
            step.Append(layer, keys, values);
            step.Attend(layer, queries, _output.AsSpan(0, tokenIds.Length * QueryHeads * Width));
            for (int row = 0; row < logitTokens.Length; row++)
            {
                ReadOnlySpan<float> output = _output.AsSpan(logitTokens[row] * QueryHeads * Width, QueryHeads * Width);
                for (int token = 0; token < Vocabulary; token++)
                {
                    float sum = 0;
                    for (int i = 0; i < output.Length; i++)
                    {
                        sum += output[i] * Directions[(token * QueryHeads * Width) + i];
                    }

                    logits[(row * Vocabulary) + token] += sum * (layer + 1) * 4;
                }
            }
        }

        step.Commit();
    }

    private static float[] All(ReadOnlySpan<int> tokens, int[] places, int kind, int count)
    {
        float[] all = new float[tokens.Length * count];
        for (int t = 0; t < tokens.Length; t++)
        {
            Numbers((((places[t] * 8) + kind) * Vocabulary) + tokens[t], count).CopyTo(all, t * count);
        }

        return all;
    }

    private static float[] Numbers(int seed, int count)
    {
        // SplitMix64.
        ulong state = unchecked((ulong)seed * 0x9E3779B97F4A7C15UL);
        float[] numbers = new float[count];
        for (int i = 0; i < count; i++)
        {
            state = unchecked(state + 0x9E3779B97F4A7C15UL);
            ulong z = state;
            z = unchecked((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9UL);
            z = unchecked((z ^ (z >> 27)) * 0x94D049BB133111EBUL);
            numbers[i] = (((z ^ (z >> 31)) >> 40) / 8388608f) - 1;
        }

        return numbers;
    }
}
