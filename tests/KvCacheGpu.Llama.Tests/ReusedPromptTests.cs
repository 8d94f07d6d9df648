using KvCacheGpu.Serving;

namespace KvCacheGpu.Llama.Tests;

/// <summary>A model's text after a prompt of which another sequence computed the most.</summary>
public sealed class ReusedPromptTests(DemoFixture demo) : IClassFixture<DemoFixture>
{
    [Theory]
    [InlineData(PageFormat.F32)]
    [InlineData(PageFormat.F16)]
    public void Text_and_logits_are_those_without_reuse(PageFormat format)
    {
        int[] prompt = demo.Ids[..120];
        using KvCache cache = new(demo.Model.Geometry(16), new KvCacheOptions
        {
            Device = "cpu",
            MaxTokens = 512,
            MaxSequences = 4,
            KeyFormat = format,
            ValueFormat = format,
            PrefixReuse = true,
        });
        using LlamaDecoder decoder = new(demo.Model);
        (int[] text, float[] logits, int hit) = Run(cache, decoder, demo.Model.Config, prompt);
        Assert.Equal(0, hit);
        foreach (int other in (int[])[120, 100, 70])
        {
            (int[] again, float[] same, hit) = Run(cache, decoder, demo.Model.Config, prompt);
            Assert.Equal(119, hit);
            Assert.Equal(text, again);
            Assert.Equal(logits, same);
            _ = Run(cache, decoder, demo.Model.Config, [.. prompt[..other], .. demo.Ids[130..150]]);
        }
    }

    private static (int[] Text, float[] Logits, int Hit) Run(KvCache cache, LlamaDecoder decoder, LlamaConfig config, int[] prompt)
    {
        using KvSequence sequence = cache.CreateSequence();
        int hit = sequence.Reuse(prompt);
        float[] logits = new float[config.VocabularySize];
        decoder.Prefill(sequence, prompt.AsSpan(hit), logits);
        int[] text = [.. decoder.Generate(sequence, [KvSampler.Greedy(logits)], new GenerateOptions { MaxNewTokens = 40, StopTokens = [] })];
        return (text, logits, hit);
    }
}
