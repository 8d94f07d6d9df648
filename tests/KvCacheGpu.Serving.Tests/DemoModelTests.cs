using KvCacheGpu.Evaluation;
using KvCacheGpu.Llama;

namespace KvCacheGpu.Serving.Tests;

/// <summary>A trained model under the scheduler: what the reference host generates alone, it generates beside others.</summary>
public class DemoModelTests
{
    [Fact]
    public async Task Each_continues_its_text_as_alone()
    {
        using LlamaModel model = DemoModel.Load();
        int[] text = model.Tokenizer!.Encode(DemoModel.ReadDocument());
        KvRequest[] requests = [.. Enumerable.Range(0, 24).Select(i => new KvRequest
        {
            Prompt = text[(i * 300)..((i * 300) + 20 + (i * 11 % 100))], MaxNewTokens = 20 + (i * 7 % 50), Tenant = i % 2 == 0 ? "a" : "b",
        })];
        KvCacheOptions options = new()
        {
            Device = "cpu",
            MaxTokens = requests.Sum(request => request.Prompt.Count + request.MaxNewTokens) / 3,
            MaxSequences = 16,
            MaxSequenceTokens = 512,
            MaxBatchTokens = 128,
            KeyFormat = PageFormat.F16,
            ValueFormat = PageFormat.F16,
            FullPrecision = PageFormat.F16,
        };
        using KvCache cache = new(model.Geometry(16), options);
        using LlamaDecoder decoder = new(model, 128);
        await using KvScheduler scheduler = new(
            cache, decoder, new KvSchedulerOptions { Tokenizer = model.Tokenizer, DraftTokens = 4, ReservedPart = 0, Preemption = KvPreemption.Recompute });
        KvGeneration[] generations = [.. requests.Select(request => scheduler.Submit(request))];
        using KvCache other = new(model.Geometry(16), options);
        using LlamaDecoder alone = new(model, 128);
        foreach (KvGeneration generation in generations)
        {
            KvAnswer answer = Assert.Single(await generation.CompleteAsync());
            Assert.Null(generation.Failure);
            using KvSequence sequence = other.CreateSequence();
            int[] expected = [.. alone.Generate(sequence, generation.Request.Prompt, new GenerateOptions { MaxNewTokens = generation.Request.MaxNewTokens })];
            Assert.Equal(expected, answer.Tokens);
            Assert.Equal(model.Tokenizer.Decode(expected), answer.Text);
        }

        Assert.True((await scheduler.GetStatusAsync()).Preemptions > 0, "the cache is too large for this test");
    }
}
