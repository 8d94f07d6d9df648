using KvCacheGpu;
using static TorchSharp.torch;

namespace TorchSharpLlama;

/// <summary>
/// A small Llama with random weights reads a prompt and goes on, once with a cache that concatenates and <c>scaled_dot_product_attention</c>, then with paged
/// caches of several formats. It prints how far the logits differ, and how often the next token is the same.
/// </summary>
internal static class Program
{
    private const int Prompt = 96;
    private const int Generated = 32;

    private static readonly LlamaConfig Config = new();

    public static void Main()
    {
        Tensor[] expected = Read(CatAttention.Load(Config), []);
        long[] tokens = [.. expected.Select(Next)];
        Console.WriteLine($"torch.cat: {string.Join(' ', tokens.Take(12))} ...");
        foreach ((PageFormat keys, PageFormat values) in new[]
        {
            (PageFormat.F32, PageFormat.F32), (PageFormat.F16, PageFormat.F16), (PageFormat.I8, PageFormat.I8), (PageFormat.T4, PageFormat.V4),
        })
        {
            Comparison result = Compare(keys, values, expected, tokens);
            Console.WriteLine($"{keys.Name()} + {values.Name()}: logits differ by {result.Error:0.0e+0} of their norm, {result.Same} of {tokens.Length} tokens are the same");
        }
    }

    /// <summary>Runs the model on pages of a format, over the tokens that the reference chose, and compares.</summary>
    internal static Comparison Compare(PageFormat keys, PageFormat values)
    {
        Tensor[] expected = Read(CatAttention.Load(Config), []);
        return Compare(keys, values, expected, [.. expected.Select(Next)]);
    }

    private static Comparison Compare(PageFormat keys, PageFormat values, Tensor[] expected, long[] tokens)
    {
        var geometry = new KvGeometry(Config.Layers, Config.Heads, Config.KvHeads, Config.Width, pageTokens: 16);
        using var cache = new KvCache(geometry, new KvCacheOptions { KeyFormat = keys, ValueFormat = values, Device = "cpu" });
        Tensor[] logits = Read(PagedAttention.Load(Config, cache), tokens);
        double error = logits.Zip(expected, (got, wanted) => (got - wanted).norm().item<float>() / wanted.norm().item<float>()).Max();
        return new Comparison(error, logits.Zip(tokens, (got, token) => Next(got) == token).Count(same => same), tokens.Length);
    }

    // Logits after the prompt, which comes in two pieces, and after each token: the given ones, or the model's own choice where none are given.
    private static Tensor[] Read(LlamaModel model, long[] given)
    {
        using (no_grad())
        using (model)
        {
            var logits = new Tensor[Generated];
            long[] prompt = [.. Enumerable.Range(0, Prompt).Select(i => (long)i * i * 31 % Config.Vocabulary)];
            using Tensor _ = model.forward(tensor(prompt[..64]).unsqueeze(0), 0);
            logits[0] = model.forward(tensor(prompt[64..]).unsqueeze(0), 64);
            for (int i = 1; i < Generated; i++)
            {
                long token = given.Length > 0 ? given[i - 1] : Next(logits[i - 1]);
                logits[i] = model.forward(tensor([token]).unsqueeze(0), Prompt + i - 1);
            }

            return logits;
        }
    }

    private static long Next(Tensor logits) => logits.argmax().item<long>();

    /// <summary>How a paged cache compares with one that concatenates.</summary>
    /// <param name="Error">The largest difference of the logits of a token, as a part of their norm.</param>
    /// <param name="Same">Tokens that both choose.</param>
    /// <param name="Tokens">Tokens in all.</param>
    internal sealed record Comparison(double Error, int Same, int Tokens);
}
