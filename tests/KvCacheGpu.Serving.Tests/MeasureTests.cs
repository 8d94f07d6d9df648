using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using Microsoft.Extensions.Time.Testing;

namespace KvCacheGpu.Serving.Tests;

/// <summary>What is told of requests, by their usage, the scheduler's status and the meter, against what was counted by hand.</summary>
public class MeasureTests
{
    [Fact]
    public async Task Status_and_meter_say_what_was_done()
    {
        ToyModel model = new();
        ConcurrentDictionary<string, double> sums = new();
        ConcurrentDictionary<string, int> records = new();
        using MeterListener listener = new() { InstrumentPublished = (instrument, own) => Listen(instrument, own) };
        listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) => Add(instrument, value, tags));
        listener.SetMeasurementEventCallback<int>((instrument, value, tags, _) => Add(instrument, value, tags));
        listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) => Add(instrument, value, tags));
        listener.Start();
        FakeTimeProvider clock = new();
        using KvCache cache = ToyModel.NewCache(2000, change: options => options.PrefixReuse = true);
        model.BeforeStep = (_, _) => clock.Advance(TimeSpan.FromMilliseconds(250));
        await using KvScheduler scheduler = new(cache, model, new KvSchedulerOptions { Clock = clock, StepTokens = 32 });

        // Two steps for the prompt, nine for tokens 2 to 10.
        KvGeneration first = scheduler.Submit(new KvRequest { Prompt = ToyModel.Prompt(1, 60), MaxNewTokens = 10 });
        await first.Ended;
        Assert.Equal(
            new KvUsage { PromptTokens = 60, NewTokens = 10, TimeToFirstToken = TimeSpan.FromSeconds(.5), Time = TimeSpan.FromSeconds(2.75) }, first.Usage);

        // 48 of the 60 tokens are found: whole pages that 16 tokens follow, and the last one is never reused.
        KvGeneration second = scheduler.Submit(first.Request with { MaxNewTokens = 1 });
        await second.Ended;
        KvServingStatus status = await scheduler.GetStatusAsync();
        int reused = second.Usage.ReusedTokens;
        Assert.InRange(reused, 48, 59);
        Assert.Equal((2, 2, 12, 11), (status.Requests, status.Ended, status.Steps, status.NewTokens));
        Assert.Equal((120 - reused, reused, 0), (status.PromptTokens, status.ReusedTokens, status.Preemptions));
        Assert.Equal(new KvPercentiles(2, TimeSpan.FromSeconds(.25), TimeSpan.FromSeconds(.5)), status.TimeToFirstToken);
        Assert.Equal(new KvPercentiles(9, TimeSpan.FromSeconds(.25), TimeSpan.FromSeconds(.25)), status.TimeBetweenTokens);

        // Tokens 1 to 10 came from .5 s on, one each quarter, and the eleventh at 3 s, the second that is not over.
        Assert.Equal(10 / 3.0, status.TokensPerSecond, 3);
        Assert.Equal(2, sums["kvcache.serving.requests:length"]);
        Assert.Equal(11, sums["kvcache.serving.tokens:answer"]);
        Assert.Equal(120 - reused, sums["kvcache.serving.tokens:prompt"]);
        Assert.Equal(reused, sums["kvcache.serving.tokens:reused"]);
        Assert.Equal((.75, 2), (sums["kvcache.serving.first_token:"], records["kvcache.serving.first_token:"]));
        Assert.Equal((2.25, 9), (sums["kvcache.serving.next_token:"], records["kvcache.serving.next_token:"]));
        Assert.Equal((120 - reused + 9, 12), (sums["kvcache.serving.step.tokens:"], records["kvcache.serving.step.tokens:"]));
        Assert.False(sums.ContainsKey("kvcache.serving.preemptions:"));

        // Other tests' schedulers write to the same meter: only what this one's thread says counts.
        void Add(Instrument instrument, double value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
        {
            if (Thread.CurrentThread == model.Thread)
            {
                string key = $"{instrument.Name}:{(tags.IsEmpty ? "" : tags[0].Value)}";
                sums.AddOrUpdate(key, value, (_, sum) => sum + value);
                records.AddOrUpdate(key, 1, (_, count) => count + 1);
            }
        }

        static void Listen(Instrument instrument, MeterListener own)
        {
            if (instrument.Meter.Name == KvServingDiagnostics.MeterName)
            {
                own.EnableMeasurementEvents(instrument);
            }
        }
    }

    [Fact]
    public async Task Running_answers_can_be_looked_at_between_steps()
    {
        using KvCache cache = ToyModel.NewCache(2000, sequences: 1);
        using HeldModel held = new();
        await using KvScheduler scheduler = new(cache, held.Model);
        KvGeneration running = scheduler.Submit(new KvRequest { Prompt = ToyModel.Prompt(1, 100), Tenant = "a", Priority = 2 });
        await held.Begun();
        KvGeneration waiting = scheduler.Submit(new KvRequest { Prompt = [1, 2, 3], Tenant = "b" });
        Task<KvServingStatus> asked = scheduler.GetStatusAsync();
        await held.Step();
        Assert.Equal(
            [
                new KvAnswerStatus(running.Id, 0, "a", 2, KvAnswerState.Reading, 100, 0, 64),
                new KvAnswerStatus(waiting.Id, 0, "b", 0, KvAnswerState.Waiting, 3, 0, 0),
            ],
            (await asked).Answers);
        Task<int> length = scheduler.ReadAsync(running.Id, 0, sequence => sequence.Length);
        Task<int> none = scheduler.ReadAsync(waiting.Id, 0, sequence => sequence.Length);
        Task<int> fails = scheduler.ReadAsync<int>(running.Id, 0, _ => throw new InvalidOperationException("own"));
        await held.Step();
        Assert.Equal((100, 0), (await length, await none));
        await Assert.ThrowsAsync<InvalidOperationException>(() => fails);
        Assert.Equal(1, scheduler.Waiting);
        held.Release();
    }
}
