using System.Collections.Concurrent;
using System.Diagnostics;

namespace KvCacheGpu.Cli;

/// <summary>What a load is made of.</summary>
/// <param name="Clients">Conversations that go on at once, where there is no rate.</param>
/// <param name="Rate">Conversations that begin each second, however the server keeps up; null for a closed loop, in which a client asks again when it has its answer.</param>
/// <param name="Conversations">Conversations that are measured.</param>
/// <param name="WarmUp">Conversations before these, which are not.</param>
/// <param name="Deadline">Time within which an answer must be whole to count.</param>
/// <param name="Seed">The same seed gives the same texts and, with a rate, the same times.</param>
internal sealed record LoadSettings(int Clients, double? Rate, int Conversations, int WarmUp, TimeSpan Deadline, int Seed);

/// <summary>Runs a load against a server.</summary>
internal sealed class LoadRun(LoadClient client, LoadMix mix, LoadSettings settings)
{
    private readonly ConcurrentBag<LoadSample> _samples = [];

    /// <summary>Runs it.</summary>
    /// <param name="progress">Receives the number of conversations that have ended.</param>
    /// <returns>The samples that are measured, and the seconds that they took together.</returns>
    public async Task<(IReadOnlyList<LoadSample> Samples, double Seconds)> RunAsync(IProgress<int> progress)
    {
        await RunManyAsync(0, settings.WarmUp, progress).ConfigureAwait(false);
        _samples.Clear();
        long begun = Stopwatch.GetTimestamp();
        await RunManyAsync(settings.WarmUp, settings.Conversations, progress).ConfigureAwait(false);
        return ([.. _samples], Stopwatch.GetElapsedTime(begun).TotalSeconds);
    }

    private Task RunManyAsync(int first, int count, IProgress<int> progress) =>
        settings.Rate is { } rate ? OpenAsync(first, count, rate, progress) : ClosedAsync(first, count, progress);

    private async Task ClosedAsync(int first, int count, IProgress<int> progress)
    {
        int next = 0;
        int ended = 0;
        await Task.WhenAll(Enumerable.Range(0, Math.Min(settings.Clients, count)).Select(async _ =>
        {
            for (int i = Interlocked.Increment(ref next) - 1; i < count; i = Interlocked.Increment(ref next) - 1)
            {
                await ConverseAsync(first + i, Stopwatch.GetTimestamp()).ConfigureAwait(false);
                progress.Report(first + Interlocked.Increment(ref ended));
            }
        })).ConfigureAwait(false);
    }

    // Arrivals are independent of the answers: a server that falls behind is asked on, and its times count from when it should have been asked.
    private async Task OpenAsync(int first, int count, double rate, IProgress<int> progress)
    {
        Random random = new(settings.Seed + first);
        long start = Stopwatch.GetTimestamp();
        double at = 0;
        int ended = 0;
        List<Task> all = [];
        for (int i = 0; i < count; i++)
        {
            at += -Math.Log(1 - random.NextDouble()) / rate;
            double wait = at - Stopwatch.GetElapsedTime(start).TotalSeconds;
            if (wait > 0)
            {
                await Task.Delay(TimeSpan.FromSeconds(wait)).ConfigureAwait(false);
            }

            all.Add(OneAsync(first + i, start + (long)(at * Stopwatch.Frequency)));
        }

        await Task.WhenAll(all).ConfigureAwait(false);

        async Task OneAsync(int conversation, long begun)
        {
            await ConverseAsync(conversation, begun).ConfigureAwait(false);
            progress.Report(first + Interlocked.Increment(ref ended));
        }
    }

    private async Task ConverseAsync(int conversation, long begun)
    {
        string history = "";
        foreach (LoadTurn turn in mix.Conversation(settings.Seed + conversation + 1))
        {
            string prompt = turn.KeepsHistory ? history + turn.Text : turn.Text;
            LoadSample sample = await client.AskAsync(prompt, turn.NewTokens, begun, settings.Deadline).ConfigureAwait(false);
            _samples.Add(sample);
            if (sample.Error is not null)
            {
                return;
            }

            history = prompt + sample.Text + " ";
            begun = Stopwatch.GetTimestamp();
        }
    }
}
