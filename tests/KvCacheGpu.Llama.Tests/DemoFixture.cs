using KvCacheGpu.Evaluation;
using KvCacheGpu.Serving;

namespace KvCacheGpu.Llama.Tests;

/// <summary>The demo model, loaded once, and what the oracle says about its first 200 tokens of held-out text.</summary>
public sealed class DemoFixture : IDisposable
{
    public const int Tokens = 200;

    public DemoFixture()
    {
        Model = DemoModel.Load();
        Text = DemoModel.ReadDocument();
        Ids = Model.Tokenizer!.Encode(Text)[..Tokens];
        Expected = new PlainLlama(DemoModel.Directory).Logits(Ids);
    }

    public LlamaModel Model { get; }

    public string Text { get; }

    public int[] Ids { get; }

    public double[][] Expected { get; }

    public static KvCache NewCache(LlamaModel model, string device = "cpu", PageFormat format = PageFormat.F32, int maxTokens = 512, int pageTokens = 16, int batch = 512) =>
        new(model.Geometry(pageTokens), new KvCacheOptions
        {
            Device = device,
            MaxTokens = maxTokens,
            MaxSequences = 4,
            MaxBatchTokens = batch,
            KeyFormat = format,
            ValueFormat = format,
            FullPrecision = format == PageFormat.I8 ? PageFormat.F16 : format,
        });

    /// <summary>Within 1e-3 of the row's largest logit, and the same choice.</summary>
    public static void AssertClose(double[][] expected, ReadOnlySpan<float> logits)
    {
        int width = expected[0].Length;
        for (int t = 0; t < expected.Length; t++)
        {
            ReadOnlySpan<float> row = logits.Slice(t * width, width);
            double scale = expected[t].Max(Math.Abs);
            for (int i = 0; i < width; i++)
            {
                Assert.InRange(row[i], expected[t][i] - (1e-3 * scale), expected[t][i] + (1e-3 * scale));
            }

            Assert.Equal(Array.IndexOf(expected[t], expected[t].Max()), KvSampler.Greedy(row));
        }
    }

    public void Dispose() => Model.Dispose();
}
