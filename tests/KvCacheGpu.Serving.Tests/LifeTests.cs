using Microsoft.Extensions.Time.Testing;

namespace KvCacheGpu.Serving.Tests;

/// <summary>How requests end, and who goes first.</summary>
public class LifeTests
{
    [Fact]
    public async Task A_request_can_be_cancelled_wherever_it_is()
    {
        using KvCache cache = ToyModel.NewCache(4000, sequences: 1);
        long empty = cache.AllocatedBytes;
        using HeldModel held = new();
        await using KvScheduler scheduler = new(cache, held.Model);
        KvGeneration running = scheduler.Submit(new KvRequest { Prompt = ToyModel.Prompt(1, 150), MaxNewTokens = 9 });
        await held.Begun();
        using CancellationTokenSource cancel = new();
        KvGeneration waiting = scheduler.Submit(new KvRequest { Prompt = [1], Choices = 1 }, cancel.Token);
        await cancel.CancelAsync();
        await held.Step();
        Assert.Equal(KvFinish.Cancelled, Assert.Single(await waiting.CompleteAsync()).Finish);

        // While its prompt is read.
        running.Cancel();
        KvGeneration next = scheduler.Submit(new KvRequest { Prompt = [1, 2], MaxNewTokens = 50 });
        await held.Step();
        Assert.Equal([2], held.Last);
        Assert.Equal((0, KvFinish.Cancelled), (running.Usage.NewTokens, Assert.Single(await running.CompleteAsync()).Finish));

        // While it generates: what has come stands.
        await held.Step();
        await held.Step();
        next.Cancel();
        held.Release();
        KvAnswer answer = Assert.Single(await next.CompleteAsync());
        Assert.Equal(KvFinish.Cancelled, answer.Finish);
        Assert.Equal(ToyModel.Alone([1, 2], answer.Tokens.Count), answer.Tokens);
        Assert.InRange(answer.Tokens.Count, 2, 3);
        Assert.Equal(3, (await scheduler.GetStatusAsync()).Ended);
        Assert.Equal(empty, cache.AllocatedBytes);
    }

    [Fact]
    public async Task A_reader_that_leaves_cancels_the_request()
    {
        using KvCache cache = ToyModel.NewCache(4000);
        using HeldModel held = new();
        await using KvScheduler scheduler = new(cache, held.Model);
        KvGeneration generation = scheduler.Submit(new KvRequest { Prompt = [5], MaxNewTokens = 1000 });
        await held.Begun();
        await held.Step();
        await foreach (KvPiece piece in generation.ReadAllAsync())
        {
            Assert.NotNull(piece.Token);
            break;
        }

        held.Release();
        await generation.Ended;
        Assert.InRange(generation.Usage.NewTokens, 1, 3);
    }

    [Fact]
    public async Task Deadlines_end_requests_that_wait_and_that_run()
    {
        FakeTimeProvider clock = new();
        using KvCache cache = ToyModel.NewCache(4000, sequences: 1);
        using HeldModel held = new();
        await using KvScheduler scheduler = new(cache, held.Model, new KvSchedulerOptions { Clock = clock });
        KvGeneration running = scheduler.Submit(new KvRequest { Prompt = [5], MaxNewTokens = 1000, Deadline = TimeSpan.FromSeconds(10) });
        await held.Begun();
        KvGeneration waiting = scheduler.Submit(new KvRequest { Prompt = [5], Deadline = TimeSpan.FromSeconds(5) });
        await held.Step();
        clock.Advance(TimeSpan.FromSeconds(6));
        await held.Step();
        KvAnswer answer = Assert.Single(await waiting.CompleteAsync());
        Assert.Equal((KvFinish.Deadline, 0), (answer.Finish, answer.Tokens.Count));
        Assert.Equal(TimeSpan.FromSeconds(6), waiting.Usage.Time);
        clock.Advance(TimeSpan.FromSeconds(5));
        held.Release();
        answer = Assert.Single(await running.CompleteAsync());
        Assert.Equal(KvFinish.Deadline, answer.Finish);
        Assert.Equal(ToyModel.Alone([5], answer.Tokens.Count), answer.Tokens);
        Assert.Equal(TimeSpan.Zero, running.Usage.TimeToFirstToken);
    }

    [Fact]
    public async Task Draining_ends_what_it_has_and_takes_no_more()
    {
        using KvCache cache = ToyModel.NewCache(4000, sequences: 2);
        KvScheduler scheduler = new(cache, new ToyModel());
        KvGeneration[] all = [.. Enumerable.Range(1, 6).Select(i => scheduler.Submit(new KvRequest { Prompt = [i], MaxNewTokens = 40 }))];
        await scheduler.DrainAsync(TimeSpan.FromMinutes(1));
        foreach (KvGeneration generation in all)
        {
            Assert.Equal(KvFinish.Length, Assert.Single(await generation.CompleteAsync()).Finish);
        }

        Assert.Equal(KvRefusal.Closed, Assert.Throws<KvRequestRefusedException>(() => scheduler.Submit(new KvRequest { Prompt = [1] })).Refusal);
        await Assert.ThrowsAsync<ObjectDisposedException>(scheduler.GetStatusAsync);
        all[0].Cancel();
        await scheduler.DisposeAsync();
        await scheduler.DisposeAsync();
    }

    [Fact]
    public async Task What_is_not_ended_in_time_is_closed_with_what_has_come()
    {
        using KvCache cache = ToyModel.NewCache(4000, sequences: 1);
        long empty = cache.AllocatedBytes;
        using HeldModel held = new();
        KvScheduler scheduler = new(cache, held.Model);
        KvGeneration running = scheduler.Submit(new KvRequest { Prompt = [5], MaxNewTokens = 1000 });
        KvGeneration waiting = scheduler.Submit(new KvRequest { Prompt = [6], MaxNewTokens = 1000, Choices = 1 });
        await held.Begun();
        await held.Step();
        Task drained = scheduler.DrainAsync(TimeSpan.Zero);
        held.Release();
        await drained;
        KvAnswer answer = Assert.Single(await running.CompleteAsync());
        Assert.Equal((KvFinish.Closed, 2), (answer.Finish, answer.Tokens.Count));
        Assert.Equal(KvFinish.Closed, Assert.Single(await waiting.CompleteAsync()).Finish);
        Assert.Equal(empty, cache.AllocatedBytes);
    }

    [Theory]
    [InlineData(KvPreemption.Swap)]
    [InlineData(KvPreemption.Recompute)]
    public async Task A_higher_priority_takes_a_place_and_gives_it_back(KvPreemption preemption)
    {
        using KvCache cache = ToyModel.NewCache(4000, sequences: 1);
        using HeldModel held = new();
        await using KvScheduler scheduler = new(cache, held.Model, new KvSchedulerOptions { Preemption = preemption });
        KvGeneration low = scheduler.Submit(new KvRequest { Prompt = ToyModel.Prompt(1, 20), MaxNewTokens = 10 });
        await held.Begun();
        await held.Step();
        KvGeneration high = scheduler.Submit(new KvRequest { Prompt = ToyModel.Prompt(2, 30), MaxNewTokens = 3, Priority = 1 });
        await held.Step();
        Assert.Equal([30], held.Last);
        KvServingStatus status = await StatusBetween(scheduler, held);
        Assert.Equal([KvAnswerState.Generating, KvAnswerState.Preempted], status.Answers.Select(answer => answer.State));
        held.Release();
        Assert.Equal(ToyModel.Alone(low.Request.Prompt, 10), Assert.Single(await low.CompleteAsync()).Tokens);
        Assert.Equal(ToyModel.Alone(high.Request.Prompt, 3), Assert.Single(await high.CompleteAsync()).Tokens);
        Assert.Equal((1, 0), (low.Usage.Preemptions, high.Usage.Preemptions));
    }

    [Theory]
    [InlineData(1, 1.0)]
    [InlineData(3, 3.0)]
    public async Task Tenants_get_shares_by_their_weights_however_many_they_ask_for(int weight, double share)
    {
        using KvCache cache = ToyModel.NewCache(4000, sequences: 1);
        ToyModel model = new();
        using ManualResetEventSlim go = new();
        model.BeforeStep = (_, _) => Assert.True(go.Wait(TimeSpan.FromSeconds(30)));
        await using KvScheduler scheduler = new(
            cache, model, new KvSchedulerOptions { TenantWeights = new Dictionary<string, double> { ["few"] = weight } });
        KvGeneration[] many = [.. Enumerable.Range(1, 40).Select(i => scheduler.Submit(new KvRequest { Prompt = [i], MaxNewTokens = 10, Tenant = "many" }))];
        KvGeneration[] few = [.. Enumerable.Range(1, 12).Select(i => scheduler.Submit(new KvRequest { Prompt = [i], MaxNewTokens = 10, Tenant = "few" }))];
        go.Set();
        await few[^1].Ended;
        int before = many.Count(generation => generation.Ended.IsCompleted);
        Assert.InRange(before, (12 / share) - 2, (12 / share) + 3);
    }

    [Fact]
    public async Task A_request_that_fails_takes_no_other_with_it()
    {
        using KvCache cache = ToyModel.NewCache(4000);
        ToyModel model = new() { Poison = 60 };
        await using KvScheduler scheduler = new(cache, model);
        KvGeneration[] all = [.. Enumerable.Range(1, 10).Select(i => scheduler.Submit(new KvRequest { Prompt = i == 4 ? [i, 60] : [i], MaxNewTokens = 8 }))];
        foreach ((int i, KvGeneration generation) in all.Index())
        {
            KvAnswer answer = Assert.Single(await generation.CompleteAsync());
            int[] expected = ToyModel.Alone([i + 1], 8);
            int end = Array.IndexOf(expected, 60);
            bool fails = i == 3 || (end >= 0 && end < 7);
            Assert.Equal(fails ? KvFinish.Failed : KvFinish.Length, answer.Finish);
            Assert.Equal(fails, generation.Failure is InvalidOperationException { Message: "poison" });
            if (i != 3)
            {
                Assert.Equal(fails ? expected[..(end + 1)] : expected, answer.Tokens);
            }
        }
    }

    [Fact]
    public async Task An_answer_that_never_fits_fails_with_numbers_and_others_go_on()
    {
        using KvCache cache = ToyModel.NewCache(400, sequences: 4);
        await using KvScheduler scheduler = new(cache, new ToyModel());
        using KvSequence outsider = cache.CreateSequence();
        ToyModel other = new();
        for (int i = 0; i < 5; i++)
        {
            other.Forward([outsider], ToyModel.Prompt(i, 50), [50], [], []);
        }

        KvGeneration huge = scheduler.Submit(new KvRequest { Prompt = ToyModel.Prompt(1, 250), MaxNewTokens = 5, Choices = 2 });
        KvGeneration small = scheduler.Submit(new KvRequest { Prompt = [3], MaxNewTokens = 5 });
        Assert.All(await huge.CompleteAsync(), answer => Assert.Equal(KvFinish.Failed, answer.Finish));
        KvOutOfMemoryException failure = Assert.IsType<KvOutOfMemoryException>(huge.Failure);
        Assert.True(failure.Shortage.Needed > failure.Shortage.Free);
        Assert.Equal(ToyModel.Alone([3], 5), Assert.Single(await small.CompleteAsync()).Tokens);
    }

    [Fact]
    public async Task A_full_quota_holds_up_its_tenant_alone()
    {
        using KvCache cache = ToyModel.NewCache(
            4000, change: options => options.TenantQuotas = new Dictionary<string, KvTenantQuota> { ["small"] = new() { Tokens = 100 } });
        await using KvScheduler scheduler = new(cache, new ToyModel(), new KvSchedulerOptions { ReservedPart = 0 });
        KvRequestRefusedException refusal = Assert.Throws<KvRequestRefusedException>(
            () => scheduler.Submit(new KvRequest { Prompt = ToyModel.Prompt(1, 80), MaxNewTokens = 21, Tenant = "small" }));
        Assert.Equal(KvRefusal.TooLong, refusal.Refusal);
        KvGeneration[] all = [.. Enumerable.Range(0, 20).Select(i => scheduler.Submit(
            new KvRequest { Prompt = ToyModel.Prompt(i, 30), MaxNewTokens = 50, Tenant = i % 2 == 0 ? "small" : "large" }))];
        foreach (KvGeneration generation in all)
        {
            Assert.Equal(ToyModel.Alone(generation.Request.Prompt, 50), Assert.Single(await generation.CompleteAsync()).Tokens);
        }

        Assert.True(all.Where((_, i) => i % 2 == 1).Sum(generation => generation.Usage.Preemptions) == 0);
    }

    [Fact]
    public async Task What_cannot_be_done_is_refused_by_name()
    {
        using KvCache cache = ToyModel.NewCache(4000, sequences: 8);
        using HeldModel held = new();
        await using KvScheduler scheduler = new(cache, held.Model, new KvSchedulerOptions { MaxWaiting = 1, MaxConcurrency = 1 });
        KvRequest good = new() { Prompt = [1, 2] };
        (KvRequest Request, KvRefusal Refusal, string? Parameter)[] bad =
        [
            (good with { Prompt = [] }, KvRefusal.Invalid, "Prompt"),
            (good with { Prompt = [1, 61] }, KvRefusal.Invalid, "Prompt"),
            (good with { Prompt = [-1] }, KvRefusal.Invalid, "Prompt"),
            (good with { MaxNewTokens = 0 }, KvRefusal.Invalid, "MaxNewTokens"),
            (good with { Choices = 0 }, KvRefusal.Invalid, "Choices"),
            (good with { Choices = 2 }, KvRefusal.Invalid, "Choices"),
            (good with { TopLogprobs = 21 }, KvRefusal.Invalid, "TopLogprobs"),
            (good with { StopTexts = ["a"] }, KvRefusal.Invalid, "StopTexts"),
            (good with { StopTexts = [""] }, KvRefusal.Invalid, "StopTexts"),
            (good with { Deadline = TimeSpan.Zero }, KvRefusal.Invalid, "Deadline"),
            (good with { Sampling = new() { Temperature = double.NaN } }, KvRefusal.Invalid, "Temperature"),
            (good with { Sampling = new() { TopP = 0 } }, KvRefusal.Invalid, "TopP"),
            (good with { Sampling = new() { MinP = 2 } }, KvRefusal.Invalid, "MinP"),
            (good with { Sampling = new() { TopK = -1 } }, KvRefusal.Invalid, "TopK"),
            (good with { Sampling = new() { RepetitionPenalty = 0 } }, KvRefusal.Invalid, "RepetitionPenalty"),
            (good with { Sampling = new() { LogitBias = new Dictionary<int, float> { [61] = 1 } } }, KvRefusal.Invalid, "LogitBias"),
            (good with { MaxNewTokens = 4000 }, KvRefusal.TooLong, "MaxNewTokens"),
            (good with { MaxNewTokens = int.MaxValue }, KvRefusal.TooLong, "MaxNewTokens"),
        ];
        foreach ((KvRequest request, KvRefusal expected, string? parameter) in bad)
        {
            KvRequestRefusedException refusal = Assert.Throws<KvRequestRefusedException>(() => scheduler.Submit(request));
            Assert.Equal((expected, parameter), (refusal.Refusal, refusal.Parameter));
        }

        scheduler.Submit(good);
        await held.Begun();
        scheduler.Submit(good);
        Assert.Equal(KvRefusal.QueueFull, Assert.Throws<KvRequestRefusedException>(() => scheduler.Submit(good)).Refusal);
        foreach (KvSchedulerOptions options in new KvSchedulerOptions[]
        {
            new() { MaxConcurrency = 9 }, new() { MaxConcurrency = 0 }, new() { StepTokens = 65 }, new() { DraftTokens = 17 }, new() { ReservedPart = 1.1 },
            new() { ReservedPart = double.NaN }, new() { MaxWaiting = -1 }, new() { MaxPreemptions = -1 }, new() { TenantWeights = new Dictionary<string, double> { ["a"] = 0 } },
        })
        {
            Assert.Throws<ArgumentOutOfRangeException>(() => new KvScheduler(cache, held.Model, options));
        }

        held.Release();
    }

    private static async Task<KvServingStatus> StatusBetween(KvScheduler scheduler, HeldModel held)
    {
        Task<KvServingStatus> status = scheduler.GetStatusAsync();
        await held.Step();
        return await status;
    }
}
