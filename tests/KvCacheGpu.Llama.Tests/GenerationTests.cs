using KvCacheGpu.Evaluation;


namespace KvCacheGpu.Llama.Tests;

/// <summary>Generated text: greedy, sampled, on every tier; and facts that the model remembers.</summary>
public sealed class GenerationTests(DemoFixture demo) : IClassFixture<DemoFixture>
{
    [Fact]
    public void Greedy_text_is_what_the_plain_forward_pass_would_choose()
    {
        int[] prompt = demo.Ids[..20];
        int[] text = Generate("cpu", prompt, 24);
        Assert.Equal(24, text.Length);
        double[][] logits = new PlainLlama(DemoModel.Directory).Logits([.. prompt, .. text]);
        Assert.Equal(text, Enumerable.Range(19, 24).Select(t => Array.IndexOf(logits[t], logits[t].Max())));
    }

    [Fact]
    public void Portable_kernels_choose_the_same_tokens_as_simd()
    {
        int[] prompt = demo.Ids[..20];
        using KvCache portable = DemoFixture.NewCache(demo.Model, "ilgpu-cpu");
        Assert.DoesNotContain("simd", portable.TierName, StringComparison.OrdinalIgnoreCase);
        Assert.Equal(Generate("cpu", prompt, 24), Generate("ilgpu-cpu", prompt, 24));
    }

    [Fact]
    public void Facts_of_a_document_are_all_remembered()
    {
        DemoFacts facts = DemoFacts.Create(demo.Model.Tokenizer!, demo.Text, 450, 8, seed: 1);
        Assert.Equal(450, facts.Document.Count);
        Assert.Equal(8, facts.Facts.Count);
        using KvCache cache = DemoFixture.NewCache(demo.Model, maxTokens: 1024);
        using LlamaDecoder decoder = new(demo.Model);
        using KvSequence document = cache.CreateSequence();
        decoder.Prefill(document, [.. facts.Document], default);
        foreach (DemoFact fact in facts.Facts)
        {
            Assert.Equal(fact.Key, facts.Document[fact.Position]);
            Assert.Equal(fact.Value, facts.Document[fact.Position + 1]);
            using KvSequence asked = document.Fork();
            Assert.Equal(fact.Value, Assert.Single(decoder.Generate(asked, fact.Question, new GenerateOptions { MaxNewTokens = 1 })));
        }
    }

    [Fact]
    public void A_document_of_facts_follows_from_its_seed()
    {
        LlamaTokenizer tokenizer = demo.Model.Tokenizer!;
        DemoFacts facts = DemoFacts.Create(tokenizer, demo.Text, 1000, 16, seed: 5);
        Assert.Equal(facts.Document, DemoFacts.Create(tokenizer, demo.Text, 1000, 16, seed: 5).Document);
        Assert.NotEqual(facts.Document, DemoFacts.Create(tokenizer, demo.Text, 1000, 16, seed: 6).Document);
        Assert.Equal(16, facts.Facts.Select(f => f.Key).Distinct().Count());
        foreach (DemoFact fact in facts.Facts)
        {
            Assert.Contains($" Now the word{tokenizer.Decode([fact.Key, fact.Value])}.", tokenizer.Decode([.. facts.Document]), StringComparison.Ordinal);
            Assert.Equal(" What word" + tokenizer.Decode([fact.Key]), tokenizer.Decode([.. fact.Question]));
        }

        Assert.Throws<ArgumentException>(() => DemoFacts.Create(tokenizer, demo.Text, 20, 8));
        Assert.Throws<ArgumentException>(() => DemoFacts.Create(tokenizer, demo.Text, 50_000, 8));
        Assert.Throws<ArgumentOutOfRangeException>(() => DemoFacts.Create(tokenizer, demo.Text, 9_000, 129));
    }

    [Fact]
    public void Prompts_longer_than_a_step_are_read_in_several()
    {
        using KvCache cache = DemoFixture.NewCache(demo.Model, batch: 48);
        using LlamaDecoder decoder = new(demo.Model);
        using KvSequence sequence = cache.CreateSequence();
        List<int> read = [];
        int[] text = [.. decoder.Generate(sequence, demo.Ids, new GenerateOptions { MaxNewTokens = 3, PromptProgress = new Recorder(read) })];
        Assert.Equal([48, 96, 144, 192, 200], read);
        Assert.Equal(202, sequence.Length);
        Assert.Equal(Array.IndexOf(demo.Expected[^1], demo.Expected[^1].Max()), text[0]);
    }

    [Fact]
    public void Text_ends_at_a_stop_token_and_stops_when_cancelled()
    {
        int[] text = Generate("cpu", demo.Ids[..20], 24);
        using KvCache cache = DemoFixture.NewCache(demo.Model);
        using LlamaDecoder decoder = new(demo.Model);
        using KvSequence sequence = cache.CreateSequence();
        int stop = text[5];
        int[] shorter = [.. decoder.Generate(sequence, demo.Ids[..20], new GenerateOptions { StopTokens = [stop] })];
        Assert.Equal(text[..(Array.IndexOf(text, stop) + 1)], shorter);
        using KvSequence other = cache.CreateSequence();
        Assert.Throws<OperationCanceledException>(() => decoder.Generate(other, [0], cancellationToken: new CancellationToken(true)).ToArray());
        Assert.Throws<ArgumentException>(() => decoder.Generate(other, []));
        Assert.Equal(0, other.Length);
    }

    private int[] Generate(string device, int[] prompt, int tokens)
    {
        using KvCache cache = DemoFixture.NewCache(demo.Model, device);
        using LlamaDecoder decoder = new(demo.Model);
        using KvSequence sequence = cache.CreateSequence();
        return [.. decoder.Generate(sequence, prompt, new GenerateOptions { MaxNewTokens = tokens })];
    }

    private sealed class Recorder(List<int> values) : IProgress<int>
    {
        public void Report(int value) => values.Add(value);
    }
}
