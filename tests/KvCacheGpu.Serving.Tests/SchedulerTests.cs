namespace KvCacheGpu.Serving.Tests;

/// <summary>Many requests at once: each gets what it gets alone.</summary>
public class SchedulerTests
{
    [Theory]
    [InlineData(KvPreemption.Swap, 0, false)]
    [InlineData(KvPreemption.Recompute, 0, false)]
    [InlineData(KvPreemption.Recompute, 6, true)]
    [InlineData(KvPreemption.Swap, 6, true)]
    public async Task Sixty_four_clients_in_a_third_of_their_room_get_what_they_get_alone(KvPreemption preemption, int drafts, bool reuse)
    {
        KvRequest[] requests = [.. Enumerable.Range(0, 64).Select(i => new KvRequest
        {
            Prompt = ToyModel.Prompt(i % 50, 5 + (i * 7 % 60)), MaxNewTokens = 10 + (i * 13 % 140), Tenant = i % 2 == 0 ? "a" : "b",
        })];
        int all = requests.Sum(request => request.Prompt.Count + request.MaxNewTokens);
        using KvCache cache = ToyModel.NewCache(all / 3, change: options => options.PrefixReuse = reuse);
        long empty = cache.AllocatedBytes - cache.CachedBytes;
        await using KvScheduler scheduler = new(
            cache, new ToyModel(), new KvSchedulerOptions { Preemption = preemption, ReservedPart = 0, DraftTokens = drafts, MaxPreemptions = 2 });
        KvGeneration[] generations = [.. requests.Select(request => scheduler.Submit(request))];
        for (int i = 0; i < requests.Length; i++)
        {
            KvAnswer answer = Assert.Single(await generations[i].CompleteAsync());
            Assert.Null(generations[i].Failure);
            Assert.Equal(KvFinish.Length, answer.Finish);
            Assert.Equal(ToyModel.Alone(requests[i].Prompt, requests[i].MaxNewTokens), answer.Tokens);
            Assert.InRange(generations[i].Usage.Preemptions, 0, 2);
        }

        KvServingStatus status = await scheduler.GetStatusAsync();
        Assert.True(status.Preemptions > 0, "nobody was preempted: the cache is too large for this test");
        Assert.Equal((64, 64), (status.Requests, status.Ended));
        Assert.Empty(status.Answers);
        Assert.Equal(empty, cache.AllocatedBytes - cache.CachedBytes);
        Assert.Equal(0, cache.GetSwappedBytes());
    }

    [Theory]
    [InlineData(1, 3)]
    [InlineData(0, 0)]
    public async Task With_all_room_reserved_nobody_loses_a_place(double reserved, int preemptions)
    {
        using KvCache cache = ToyModel.NewCache(600);
        await using KvScheduler scheduler = new(cache, new ToyModel(), new KvSchedulerOptions { ReservedPart = reserved, MaxPreemptions = preemptions });
        KvGeneration[] generations = [.. Enumerable.Range(0, 40).Select(i => scheduler.Submit(new KvRequest { Prompt = ToyModel.Prompt(i, 20), MaxNewTokens = 60 }))];
        await Task.WhenAll(generations.Select(generation => generation.Ended));
        KvServingStatus status = await scheduler.GetStatusAsync();
        Assert.Equal(0, status.Preemptions);
        Assert.Equal(40 * 60, status.NewTokens);
        Assert.All(generations, generation => Assert.Equal(60, generation.Usage.NewTokens));
    }

    [Fact]
    public async Task Long_prompts_are_read_beside_answers_that_go_on()
    {
        ToyModel model = new();
        List<int[]> steps = [];
        using ManualResetEventSlim isSecondHere = new();
        model.BeforeStep = (_, counts) =>
        {
            steps.Add(counts);
            Assert.True(steps.Count < 3 || isSecondHere.Wait(TimeSpan.FromSeconds(30)));
        };
        using KvCache cache = ToyModel.NewCache(2000);
        await using KvScheduler scheduler = new(cache, model, new KvSchedulerOptions { StepTokens = 16 });
        KvGeneration first = scheduler.Submit(new KvRequest { Prompt = [1, 2, 3], MaxNewTokens = 60 });
        KvGeneration second = scheduler.Submit(new KvRequest { Prompt = ToyModel.Prompt(4, 200), MaxNewTokens = 2 });
        isSecondHere.Set();
        await Task.WhenAll(first.Ended, second.Ended);
        Assert.All(steps, counts => Assert.InRange(counts.Sum(), 1, 16));
        Assert.True(steps.Count(counts => counts is [1, 15]) > 5, "no step has a token of the one and a part of the other");
        Assert.True(steps.Count < 90, $"{steps.Count} steps");
    }

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    [InlineData(12)]
    public async Task Guesses_save_steps_and_change_nothing(int drafts)
    {
        // A prompt that repeats itself has something to guess from; seeds draw too, each token by one number.
        int[] pattern = ToyModel.Prompt(3, 9);
        int[] prompt = [.. pattern, .. pattern, .. pattern];
        foreach (KvSampling sampling in new[] { KvSampling.Greedy, new KvSampling { Temperature = .7, Seed = 5, TopK = 3 } })
        {
            using KvCache cache = ToyModel.NewCache(2000);
            RepeatingModel model = new(new ToyModel());
            await using KvScheduler scheduler = new(cache, model, new KvSchedulerOptions { DraftTokens = drafts });
            KvGeneration generation = scheduler.Submit(new KvRequest { Prompt = prompt, MaxNewTokens = 50, Sampling = sampling });
            KvAnswer answer = Assert.Single(await generation.CompleteAsync());
            using KvCache other = ToyModel.NewCache(2000);
            await using KvScheduler plain = new(other, new RepeatingModel(new ToyModel()));
            Assert.Equal(Assert.Single(await plain.Submit(generation.Request).CompleteAsync()).Tokens, answer.Tokens);
            Assert.True(generation.Usage.AcceptedTokens > 0 && generation.Usage.DraftTokens > generation.Usage.AcceptedTokens, $"{generation.Usage}");
            Assert.Equal(50, generation.Usage.NewTokens);
            Assert.True((await scheduler.GetStatusAsync()).Steps <= 51 - generation.Usage.AcceptedTokens);
        }
    }

    [Fact]
    public async Task Several_answers_share_one_reading_of_the_prompt()
    {
        using KvCache cache = ToyModel.NewCache(4000);
        ToyModel model = new();
        await using KvScheduler scheduler = new(cache, model);
        KvSampling sampling = new() { Temperature = 1, Seed = 11 };
        int[] prompt = ToyModel.Prompt(8, 100);
        KvGeneration generation = scheduler.Submit(new KvRequest { Prompt = prompt, MaxNewTokens = 20, Choices = 5, Sampling = sampling });
        IReadOnlyList<KvAnswer> answers = await generation.CompleteAsync();
        Assert.Equal(5, answers.Count);
        for (int i = 0; i < 5; i++)
        {
            Assert.Equal(ToyModel.Alone(prompt, 20, sampling with { Seed = 11 + i }), answers[i].Tokens);
        }

        Assert.Equal(100 + (5 * 19), model.Tokens);
        Assert.Equal(100, generation.Usage.NewTokens);
    }

    [Fact]
    public async Task Forks_without_a_place_wait_for_one()
    {
        using KvCache cache = ToyModel.NewCache(4000, sequences: 4);
        await using KvScheduler scheduler = new(cache, new ToyModel());
        using KvSequence outsider = cache.CreateSequence();
        using KvSequence another = cache.CreateSequence();
        KvSampling sampling = new() { Temperature = 1, Seed = 3 };
        int[] prompt = ToyModel.Prompt(8, 30);
        IReadOnlyList<KvAnswer> answers = await scheduler.Submit(new KvRequest { Prompt = prompt, MaxNewTokens = 9, Choices = 4, Sampling = sampling }).CompleteAsync();
        Assert.All(answers.Index(), pair => Assert.Equal(ToyModel.Alone(prompt, 9, sampling with { Seed = 3 + pair.Index }), pair.Item.Tokens));
    }

    [Fact]
    public async Task A_prefix_that_the_cache_has_is_not_computed_again_and_not_for_another_tenant()
    {
        using KvCache cache = ToyModel.NewCache(4000, change: options => options.PrefixReuse = true);
        await using KvScheduler scheduler = new(cache, new ToyModel());
        KvRequest request = new() { Prompt = ToyModel.Prompt(2, 100), MaxNewTokens = 30, Tenant = "a" };
        foreach ((string tenant, string? salt, int reused) in new[] { ("a", null, 0), ("a", null, 99), ("b", null, 0), ("a", "s", 0), ("a", "s", 99) })
        {
            KvGeneration generation = scheduler.Submit(request with { Tenant = tenant, Salt = salt });
            Assert.Equal(ToyModel.Alone(request.Prompt, 30), Assert.Single(await generation.CompleteAsync()).Tokens);
            Assert.InRange(generation.Usage.ReusedTokens, reused == 0 ? 0 : 88, reused);
        }
    }
}
