
namespace KvCacheGpu.Evaluation.Tests;

public sealed class TaskTests(Demo demo) : IClassFixture<Demo>
{
    private FactLanguage Language => demo.Text.Language;

    public static TheoryData<string> Names => [.. EvalTask.All.Select(t => t.Name)];

    [Theory]
    [MemberData(nameof(Names))]
    public void The_same_seed_gives_the_same_prompts_and_another_seed_others(string name)
    {
        string[] prompts = [.. new[] { 3, 3, 4 }.Select(seed => string.Join('|', Prompts(name, seed).SelectMany(p => p.Parts).Select(p => string.Join(',', p.Tokens))))];
        Assert.Equal(prompts[0], prompts[1]);
        Assert.NotEqual(prompts[0], prompts[2]);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Prompts_begin_as_texts_do_ask_something_and_stay_within_the_scale(string name)
    {
        foreach (EvalScale scale in new[] { EvalScale.Full, EvalScale.Quick, Demo.Tiny })
        {
            foreach (EvalPrompt prompt in Demo.Task(name).Prompts(demo.Text, scale, 1))
            {
                Assert.Equal((EvalAct.Read, Language.Bos), (prompt.Parts[0].Act, prompt.Parts[0].Tokens[0]));
                Assert.InRange(prompt.Scored, 1, int.MaxValue);
                Assert.InRange(prompt.MostTokens, 1, scale.MostTokens);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void A_probe_neither_fills_nor_begins_a_page(string name)
    {
        foreach (EvalPrompt prompt in Prompts(name, 2))
        {
            int length = 0;
            foreach (EvalPart part in prompt.Parts)
            {
                if (part.Act == EvalAct.Probe)
                {
                    Assert.Equal(1, length % EvalScale.PageTokens);
                    Assert.InRange(part.Tokens.Count - 1, 1, EvalScale.PageTokens - 2);
                    Assert.InRange(part.Scored, 1, part.Tokens.Count - 1);
                }
                else
                {
                    length += part.Tokens.Count;
                }
            }
        }
    }

    [Theory]
    [InlineData("recall")]
    [InlineData("recall-aware")]
    [InlineData("needle")]
    [InlineData("two-turn")]
    [InlineData("instruction")]
    public void Every_answer_was_said_before_it_is_asked(string name)
    {
        foreach (EvalPrompt prompt in Prompts(name, 5))
        {
            List<int> read = [];
            foreach (EvalPart part in prompt.Parts)
            {
                if (part.Act != EvalAct.Probe)
                {
                    read.AddRange(part.Tokens);
                    continue;
                }

                (int key, int value) = (part.Tokens[^2], part.Tokens[^1]);
                Assert.Equal([.. Language.Question(key), value], part.Tokens);
                Assert.Equal(1, part.Scored);
                Assert.Equal(1, Count(read, Language.Sentence(key, value)));
                Assert.Equal(name == "recall-aware" ? 1 : 0, Count(read, Language.Question(key)));
            }
        }
    }

    [Fact]
    public void Questions_that_are_known_stand_before_the_document()
    {
        EvalPrompt prompt = Assert.Single(Prompts("recall-aware", 0));
        EvalPart[] probes = [.. prompt.Parts.Where(p => p.Act == EvalAct.Probe)];
        int[] known = [.. probes.SelectMany(p => (int[])[.. Language.Question(p.Tokens[^2]), .. Language.Stop])];
        Assert.Equal(known, prompt.Parts[0].Tokens.Skip(1).Take(known.Length));
        Assert.Equal(Demo.Tiny.Facts / 2, probes.Length);
    }

    [Fact]
    public void Needles_lie_at_their_depths_in_documents_of_their_lengths()
    {
        IReadOnlyList<EvalPrompt> prompts = Prompts("needle", 1);
        Assert.Equal(Demo.Tiny.Lengths.Select(EvalScale.Quiet), prompts.Select(p => p.Parts[0].Tokens.Count));
        foreach (EvalPrompt prompt in prompts)
        {
            List<int> document = [.. prompt.Parts[0].Tokens];
            foreach ((int i, EvalPart probe) in prompt.Parts.Skip(1).Index())
            {
                int at = CollectionsIndex(document, Language.Sentence(probe.Tokens[^2], probe.Tokens[^1]));
                Assert.InRange((double)at / (document.Count - Language.SentenceTokens), (i * .25) - .03, (i * .25) + .03);
                Assert.EndsWith($"depth {25 * i} %", probe.Label, StringComparison.Ordinal);
            }
        }
    }

    [Fact]
    public void The_second_turn_asks_what_the_first_did_not()
    {
        EvalPrompt prompt = Assert.Single(Prompts("two-turn", 1));
        Assert.Equal(EvalAct.Write, prompt.Parts[1].Act);
        List<int> written = [.. prompt.Parts[1].Tokens];
        int asked = Language.Keys.ToArray().Sum(key => Count(written, Language.Question(key)));
        Assert.Equal(Demo.Tiny.Facts / 2, asked);
        Assert.Equal(Demo.Tiny.Facts / 2, prompt.Parts.Count(p => p.Act == EvalAct.Probe));
    }

    [Fact]
    public void Instructions_come_first_and_are_called_for_at_every_quarter()
    {
        EvalPrompt prompt = Assert.Single(Prompts("instruction", 1));
        EvalPart[] probes = [.. prompt.Parts.Where(p => p.Act == EvalAct.Probe)];
        Assert.Equal(["after 25 %", "after 50 %", "after 75 %", "after 100 %"], probes.Select(p => p.Label).Distinct());
        Assert.Equal(Language.Sentence(probes[0].Tokens[^2], probes[0].Tokens[^1]), prompt.Parts[0].Tokens.Skip(1).Take(Language.SentenceTokens));
    }

    [Fact]
    public void Perplexity_goes_on_where_the_text_goes_on()
    {
        EvalPrompt prompt = Assert.Single(Prompts("perplexity", 1));
        int[] passage = [.. prompt.Parts.SelectMany(p => p.Tokens).Skip(1)];
        Assert.InRange(TextIds().AsSpan().IndexOf(passage), 0, int.MaxValue);
        Assert.Equal((EvalAct.Write, Demo.Tiny.Written, Demo.Tiny.Written), (prompt.Parts[1].Act, prompt.Parts[1].Tokens.Count, prompt.Parts[1].Scored));
    }

    [Fact]
    public void A_text_goes_on_and_is_scored_after_its_lead()
    {
        EvalPart[] parts = [.. Assert.Single(Prompts("text", 1)).Parts];
        int[] passage = [.. parts.SelectMany(p => p.Tokens).Skip(1)];
        Assert.InRange(TextIds().AsSpan().IndexOf(passage), 0, int.MaxValue);
        Assert.Equal([EvalScale.LeadTokens, Demo.Tiny.Tokens - EvalScale.LeadTokens], parts.Select(p => p.Tokens.Count));
        Assert.Equal([0, Demo.Tiny.Tokens - EvalScale.LeadTokens], parts.Select(p => p.Scored));
    }

    [Fact]
    public void Packed_passages_each_begin_as_texts_do()
    {
        EvalPart[] parts = [.. Assert.Single(Demo.Task("packed").Prompts(demo.Text, EvalScale.Full, 1)).Parts];
        Assert.InRange(parts.Length, EvalScale.Full.Tokens / 160, EvalScale.Full.Tokens / 32);
        int length = 0;
        foreach (EvalPart part in parts)
        {
            Assert.Equal((EvalAct.Read, Language.Bos), (part.Act, part.Tokens[0]));
            Assert.InRange(TextIds().AsSpan().IndexOf([.. part.Tokens.Skip(1)]), 0, int.MaxValue);
            Assert.Equal(length < EvalScale.LeadTokens ? 0 : part.Tokens.Count - 1, part.Scored);
            length += part.Tokens.Count;
        }

        Assert.InRange(length, EvalScale.Full.Tokens - 31, EvalScale.Full.Tokens);
    }

    [Fact]
    public void A_passage_that_comes_again_is_scored_when_it_does()
    {
        EvalPart[] parts = [.. Assert.Single(Prompts("repeat", 1)).Parts];
        Assert.Equal((2, Demo.Tiny.Tokens / 3, Demo.Tiny.Tokens / 3), (parts.Length, parts[1].Tokens.Count, parts[1].Scored));
        Assert.Equal(parts[1].Tokens, parts[0].Tokens.Skip(1).Take(parts[1].Tokens.Count));
        Assert.Equal((0, Demo.Tiny.Tokens), (parts[0].Scored, parts.Sum(p => p.Tokens.Count)));
    }

    [Fact]
    public void A_text_that_is_too_short_is_refused()
    {
        EvalText text = EvalText.Create(demo.Model.Tokenizer!, "In the beginning");
        Assert.All(EvalTask.All, task => Assert.Throws<ArgumentException>(() => task.Prompts(text, Demo.Tiny, 0)));
    }

    private IReadOnlyList<EvalPrompt> Prompts(string name, int seed) => Demo.Task(name).Prompts(demo.Text, Demo.Tiny, seed);

    private int[] TextIds() => demo.Model.Tokenizer!.Encode(DemoModel.ReadDocument(), start: false);

    private static int Count(List<int> tokens, int[] part) => Enumerable.Range(0, tokens.Count - part.Length + 1).Count(i => tokens.Slice(i, part.Length).SequenceEqual(part));

    private static int CollectionsIndex(List<int> tokens, int[] part) => tokens.ToArray().AsSpan().IndexOf(part);
}
