using System.Text;

namespace KvCacheGpu.Serving.Tests;

/// <summary>Texts of answers, and where they stop.</summary>
public class TextTests
{
    [Fact]
    public void Characters_come_when_they_are_whole()
    {
        TextStream text = new(new BytesTokenizer(), []);
        byte[] bytes = Encoding.UTF8.GetBytes("aé🙂b");
        Assert.Equal(["a", "", "é", "", "", "", "🙂", "b"], bytes.Select(part => text.Add(part)));
        Assert.Equal("", text.End());
        TextStream torn = new(new BytesTokenizer(), []);
        Assert.Equal("", torn.Add(0xF0));
        Assert.Equal("\uFFFDz", torn.Add('z'));
        Assert.Equal("", torn.Add(0xC3));
        Assert.Equal("\uFFFD", torn.End());
    }

    [Theory]
    [InlineData("one two", "tw", "one ")]
    [InlineData("one two", "x", "one two")]
    [InlineData("aab aaab aac", "aaac|aac", "aab aaab ")]
    [InlineData("abcabd", "abd", "abc")]
    [InlineData("ab", "abc", "ab")]
    [InlineData("end.\n\nmore", "\n\n", "end.")]
    [InlineData("xstopstop", "stop|p", "x")]
    public void A_stop_and_what_follows_is_never_shown(string said, string stops, string shown)
    {
        TextStream text = new(new BytesTokenizer(), stops.Split('|'));
        StringBuilder seen = new();
        foreach (byte part in Encoding.UTF8.GetBytes(said))
        {
            seen.Append(text.Add(part));

            // What is shown is never taken back.
            Assert.StartsWith(seen.ToString(), shown, StringComparison.Ordinal);
        }

        seen.Append(text.End());
        Assert.Equal(shown, seen.ToString());
        Assert.Equal(shown != said, text.IsStopped);
    }

    [Fact]
    public async Task Answers_stop_at_texts_and_tokens()
    {
        BytesTokenizer tokenizer = new();
        using KvCache cache = ToyModel.NewCache(2000);
        await using KvScheduler scheduler = new(cache, new ToyModel(), new KvSchedulerOptions { Tokenizer = tokenizer });
        int[] all = ToyModel.Alone([7, 8], 60);
        string whole = string.Concat(all.Select(token => (char)token));
        string stop = whole.Substring(20, 3);
        int place = whole.IndexOf(stop, StringComparison.Ordinal);
        KvAnswer answer = Assert.Single(await scheduler.Submit(new KvRequest { Prompt = [7, 8], MaxNewTokens = 60, StopTexts = [stop] }).CompleteAsync());
        Assert.Equal((KvFinish.Stop, whole[..place]), (answer.Finish, answer.Text));
        Assert.Equal(all[..(place + 3)], answer.Tokens);

        int last = all[30];
        int first = Array.IndexOf(all, last);
        answer = Assert.Single(await scheduler.Submit(new KvRequest { Prompt = [7, 8], MaxNewTokens = 60, StopTokens = [last] }).CompleteAsync());
        Assert.Equal((KvFinish.Stop, first + 1), (answer.Finish, answer.Tokens.Count));
        answer = Assert.Single(await scheduler.Submit(new KvRequest { Prompt = [7, 8], MaxNewTokens = 60 }).CompleteAsync());
        Assert.Equal((KvFinish.Length, whole), (answer.Finish, answer.Text));
    }

    [Fact]
    public async Task A_tokenizer_that_throws_fails_its_request_alone()
    {
        using KvCache cache = ToyModel.NewCache(2000);
        int bad = ToyModel.Alone([7, 8], 10)[9];
        await using KvScheduler scheduler = new(cache, new ToyModel(), new KvSchedulerOptions { Tokenizer = new BytesTokenizer { Refused = bad } });
        KvGeneration generation = scheduler.Submit(new KvRequest { Prompt = [7, 8], MaxNewTokens = 20 });
        Assert.Equal(KvFinish.Failed, Assert.Single(await generation.CompleteAsync()).Finish);
        Assert.IsType<ArgumentException>(generation.Failure);
        Assert.Empty((await scheduler.GetStatusAsync()).Answers);
    }

    [Fact]
    public async Task Probabilities_are_those_of_the_logits_as_they_are()
    {
        using KvCache cache = ToyModel.NewCache(2000);
        await using KvScheduler scheduler = new(cache, new ToyModel());
        KvRequest request = new() { Prompt = [7, 8], MaxNewTokens = 12, TopLogprobs = 5, Sampling = new() { Temperature = 3, Seed = 1, FrequencyPenalty = 2 } };
        KvAnswer answer = Assert.Single(await scheduler.Submit(request).CompleteAsync());
        Assert.Equal(12, answer.Logprobs.Count);
        using KvCache other = ToyModel.NewCache(2000);
        using KvSequence sequence = other.CreateSequence();
        float[] logits = new float[ToyModel.Vocabulary * 13];
        new ToyModel().Forward([sequence], [7, 8, .. answer.Tokens.Take(11)], [13], [.. Enumerable.Range(0, 13)], logits);
        for (int i = 0; i < 12; i++)
        {
            double[] row = [.. logits.Skip((i + 1) * ToyModel.Vocabulary).Take(ToyModel.Vocabulary).Select(logit => (double)logit)];
            double norm = Math.Log(row.Sum(Math.Exp));
            Assert.Equal(answer.Tokens[i], answer.Logprobs[i].Chosen.Token);
            Assert.Equal(row[answer.Tokens[i]] - norm, answer.Logprobs[i].Chosen.Logprob, 1e-4);
            (double Logit, int Token)[] expected = [.. row.Select((logit, token) => (logit, token)).OrderByDescending(pair => pair.logit).Take(5)];
            Assert.Equal(expected.Select(pair => pair.Token), answer.Logprobs[i].Top.Select(top => top.Token));
            Assert.All(answer.Logprobs[i].Top.Index(), pair => Assert.Equal(expected[pair.Index].Logit - norm, pair.Item.Logprob, 1e-4));
        }
    }

    /// <summary>Each token is one byte.</summary>
    private sealed class BytesTokenizer : IKvTokenizer
    {
        private static readonly byte[] All = [.. Enumerable.Range(0, 256).Select(value => (byte)value)];

        public int Refused { get; init; } = -1;

        public int[] Encode(string text, bool start) => [.. Encoding.UTF8.GetBytes(text).Select(part => (int)part)];

        public ReadOnlySpan<byte> Bytes(int token) => token == Refused ? throw new ArgumentException("refused", nameof(token)) : All.AsSpan(token, 1);
    }
}
