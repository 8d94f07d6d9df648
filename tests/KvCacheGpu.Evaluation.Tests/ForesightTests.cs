using KvCacheGpu.Llama;

namespace KvCacheGpu.Evaluation.Tests;

public sealed class ForesightTests(Demo demo) : IClassFixture<Demo>
{
    private const string Device = "cpu";

    private KvGeometry Geometry => demo.Model.Geometry(EvalScale.PageTokens);

    [Fact]
    public void What_is_ahead_shrinks_with_every_query_to_nothing()
    {
        FutureMass future = new(2, [[.5f, .25f, 0, 1], [.125f, 0, 1, 0]]);
        Assert.Equal(2, future.Queries);
        Assert.Equal([.625f, .25f, 1, 1], All(future, 0));
        Assert.Equal([.125f, 0, 1, 0], All(future, 1));
        Assert.Equal([0, 0, 0, 0], All(future, 2));

        static float[] All(FutureMass f, int past) => [f.After(past, 0, 0), f.After(past, 0, 1), f.After(past, 1, 0), f.After(past, 1, 1)];
    }

    [Fact]
    public void The_mass_of_a_probe_lies_where_its_fact_lies()
    {
        EvalPrompt prompt = Demo.Task("recall").Prompts(demo.Text, EvalScale.Quick, 0)[0];
        FutureMass future = Foresee(prompt);
        EvalPart[] probes = [.. prompt.Parts.Skip(1)];
        int[] document = [.. prompt.Parts[0].Tokens];
        Assert.Equal(probes.Length, future.Queries);
        for (int probe = 0; probe < probes.Length; probe++)
        {
            int[] sentence = demo.Text.Language.Sentence(probes[probe].Tokens[^2], probes[probe].Tokens[^1]);
            int at = Enumerable.Range(0, document.Length - sentence.Length).Single(i => document.AsSpan(i, sentence.Length).SequenceEqual(sentence));

            // Beside the sink and what is nearest, which every query looks at.
            int heaviest = Enumerable.Range(1, (document.Length / EvalScale.PageTokens) - 3).MaxBy(page => Mass(future, probe, page) - Mass(future, probe + 1, page));
            Assert.InRange(heaviest, at / EvalScale.PageTokens, (at + sentence.Length - 1) / EvalScale.PageTokens);
        }
    }

    [Theory]
    [InlineData("recall")]
    [InlineData("two-turn")]
    [InlineData("perplexity")]
    [InlineData("text")]
    public void Probes_and_written_tokens_are_known_until_they_are_past(string task)
    {
        EvalPrompt prompt = Demo.Task(task).Prompts(demo.Text, Demo.Tiny, 0)[0];
        FutureMass future = Foresee(prompt);
        Assert.Equal(prompt.Parts.Sum(p => p.Act switch { EvalAct.Probe => 1, EvalAct.Write => p.Tokens.Count, _ when p.Scored > 0 => p.Tokens.Count / EvalScale.StepTokens, _ => 0 }), future.Queries);
        KvFutureMass? told = null;
        float before = 0;
        EvalTrial trial = new(
            demo.Model,
            (setting, geometry, tokens, device, known) =>
            {
                (told, before) = (known, known!(0, 0));
                return EvalCaches.Config(setting, geometry, tokens, device, known);
            },
            Device);
        trial.Run([prompt], new EvalSetting("f16", EvalCaches.Oracle, .9), full: null, [future], CancellationToken.None);
        Assert.Equal(future.After(0, 0, 0), before);
        Assert.InRange(before, 1e-3f * future.Queries, future.Queries);
        Assert.Equal(0, told!(0, 0));
    }

    [Fact]
    public void The_oracle_holds_more_of_what_is_asked_for_than_those_that_do_not_know_it()
    {
        EvalPrompt prompt = Demo.Task("recall").Prompts(demo.Text, EvalScale.Quick, 0)[0];
        FutureMass future = Foresee(prompt);
        double oracle = Held(EvalCaches.Oracle, prompt, future);
        Assert.All(["window", "random", "h2o"], policy => Assert.InRange(Held(policy, prompt, future), 0, .98 * oracle));
        Assert.InRange(oracle, .8, 1);
    }

    [Fact]
    public void The_oracle_recalls_what_a_window_of_the_same_bytes_forgets()
    {
        EvalSetting[] settings = [new("f16", EvalCaches.Oracle, .4), new("f16", "window", .4)];
        EvalPlan plan = new([Demo.Task("recall")], settings, 1, EvalScale.Quick, Device);
        EvalRow[] rows = [.. new EvalRun(demo.Model, demo.Text, demo.Identity, plan).Run(ResultsFile.InMemory()).Rows.Skip(1)];
        Assert.Equal(settings, rows.Select(r => r.Setting));
        Assert.True(rows[0].Ratio <= .4 && rows[0].EvictedTokens > 0, $"{rows[0]}");
        Assert.True(rows[0].Accuracy.Mean > rows[1].Accuracy.Mean && rows[0].Kl.Mean < rows[1].Kl.Mean, $"{rows[0]} {rows[1]}");
    }

    [Fact]
    public void The_least_goes_first_whichever_row_it_is_of()
    {
        KvGeometry geometry = new(layers: 2, queryHeads: 1, kvHeads: 1, keyWidth: 64, pageTokens: 16);
        float[,] masses = { { .3f, .2f, .1f }, { 9, .25f, 8 } };
        KvPages pages = new(geometry, 48, [0, 3, 6], [0, 1, 2, 0, 1, 2]) { Bytes = [100, 100, 100, 100, 100, 100], Fixed = [false, false, true, false, false, false] };
        KvTransition[] plan = [.. Enumerable.Repeat(KvTransition.Drop, 6)];
        ForesightPolicy policy = new((row, page) => masses[row, page]);
        policy.Plan(pages, 201, plan, null);
        Assert.Equal([true, true, false, false, true, false], plan.Select(t => t.Kind == KvTransitionKind.Drop));
        policy.Plan(pages, 0, plan, null);
        Assert.All(plan, t => Assert.Equal(KvTransition.Keep, t));
    }

    [Fact]
    public void Oracle_is_a_name_of_evaluations_alone_and_needs_a_future()
    {
        Assert.Contains(EvalCaches.Oracle, EvalCaches.Policies);
        Assert.False(KvPolicies.TryParse(EvalCaches.Oracle, out _));
        Assert.Throws<ArgumentException>("future", () => EvalCaches.Config(new EvalSetting("f16", EvalCaches.Oracle, .5), Geometry, 960, Device));
    }

    private FutureMass Foresee(EvalPrompt prompt) => new EvalTrial(demo.Model, EvalCaches.Config, Device).Foresee([prompt], CancellationToken.None).Single();

    private float Mass(FutureMass future, int past, int page) =>
        Enumerable.Range(0, Geometry.Layers * Geometry.KvHeads).Sum(row => future.After(past, row, page));

    // Share of the known attention on pages that a cache still holds once the document is read.
    private double Held(string policy, EvalPrompt prompt, FutureMass future)
    {
        KvGeometry geometry = Geometry;
        EvalSetting setting = new("f16", policy, .4);
        KvCacheOptions config = EvalCaches.Config(setting, geometry, prompt.MostTokens, Device, (row, page) => future.After(0, row, page));
        using KvCache cache = new(geometry, config);
        using KvSequence sequence = cache.CreateSequence();
        using LlamaDecoder decoder = new(demo.Model, config.MaxBatchTokens);
        float[] next = new float[demo.Model.Config.VocabularySize];
        foreach (int[] step in prompt.Parts[0].Tokens.Chunk(config.MaxBatchTokens))
        {
            decoder.Forward(sequence, step, next);
        }

        (double held, double all) = (0, 0);
        int[] positions = new int[prompt.MostTokens];
        for (int row = 0; row < geometry.Layers * geometry.KvHeads; row++)
        {
            int count = sequence.ResidentPositions(row / geometry.KvHeads, row % geometry.KvHeads, positions);
            int[] resident = [.. positions[..count].Select(p => p / geometry.PageTokens).Distinct()];
            held += resident.Sum(page => future.After(0, row, page));
            all += Enumerable.Range(0, geometry.PagesFor(prompt.MostTokens)).Sum(page => future.After(0, row, page));
        }

        return held / all;
    }
}
