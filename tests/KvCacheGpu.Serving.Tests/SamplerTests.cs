using CsCheck;

namespace KvCacheGpu.Serving.Tests;

/// <summary>Draws against probabilities that are worked out anew, plainly.</summary>
public class SamplerTests
{
    [Fact]
    public void Draws_follow_from_the_seed_and_ties_go_to_the_lowest_id()
    {
        Assert.Equal(1, KvSampler.Greedy([0, 3, 3, 1]));
        Assert.Equal(1, new KvSampler().Next([0, 3, 3, 1]));
        Assert.Throws<ArgumentOutOfRangeException>(() => new KvSampler(new KvSampling { Temperature = -1 }));
        Assert.Throws<ArgumentException>(() => new KvSampler().Next([]));
        KvSampler sampler = new(new() { Temperature = 1, Seed = 9 });
        KvSampler same = new(new() { Temperature = 1, Seed = 9 });
        float[] logits = [0, MathF.Log(3), float.NegativeInfinity, 0];
        for (int i = 0; i < 200; i++)
        {
            Assert.Equal(sampler.Next(logits), same.Next(logits));
        }
    }

    [Theory]
    [InlineData(1, 0, 1, 0)]
    [InlineData(.5, 0, 1, 0)]
    [InlineData(2, 3, 1, 0)]
    [InlineData(1, 0, .6, 0)]
    [InlineData(1, 0, 1, .2)]
    [InlineData(1.5, 5, .8, .1)]
    [InlineData(1, 1, 1, 0)]
    [InlineData(1, 0, 1e-9, 0)]
    [InlineData(1, 0, 1, 1)]
    public void Frequencies_are_the_probabilities_of_what_is_left(double temperature, int topK, double topP, double minP)
    {
        float[] logits = [.3f, 2, -1, 1.7f, .2f, 2, float.NegativeInfinity, -4];
        KvSampling options = new() { Temperature = temperature, TopK = topK, TopP = topP, MinP = minP, Seed = 4 };
        double[] expected = Expected(logits, options);
        const int Draws = 20_000;
        int[] counts = new int[logits.Length];
        KvSampler sampler = new(options);
        for (int i = 0; i < Draws; i++)
        {
            counts[sampler.Next(logits)]++;
        }

        for (int i = 0; i < logits.Length; i++)
        {
            // Five standard deviations.
            double tolerance = 5 * Math.Sqrt(expected[i] * (1 - expected[i]) / Draws);
            Assert.InRange((double)counts[i] / Draws, expected[i] - tolerance, expected[i] + tolerance);
        }
    }

    [Fact]
    public void Penalties_and_biases_change_logits_as_they_say()
    {
        KvSampler sampler = new(new() { RepetitionPenalty = 2, PresencePenalty = .5, FrequencyPenalty = .25, LogitBias = new Dictionary<int, float> { [3] = -100, [4] = 1 } }, [1]);

        // 5 + 0 | 4 / 2, in the prompt | 3 | 9 - 100 | 1.5 + 1
        float[] logits = [5, 4, 3, 9, 1.5f];
        Assert.Equal(0, sampler.Next(logits));

        // 5 / 2 - .5 - .25 = 1.75 | 2 | 3
        Assert.Equal(2, sampler.Next(logits));

        // 1.75 | 2 | 3 / 2 - .75 = .75 | -91 | 2.5
        Assert.Equal(4, sampler.Next(logits));

        // 1.75 | 2 | .75 | -91 | 2.5 / 2 - .75 = .5
        Assert.Equal(1, sampler.Next(logits));

        // 1.75 | 2 - .75 = 1.25
        Assert.Equal(0, sampler.Next(logits));
        float[] negative = [-1, -1.5f];
        KvSampler other = new(new() { RepetitionPenalty = 2 }, [0]);
        Assert.Equal(1, other.Next(negative));
        Assert.Equal([-1, -1.5f], negative);
    }

    [Fact]
    public void Nothing_but_what_is_left_is_ever_drawn()
    {
        Gen.Select(Gen.Float[-30, 30].Array[1, 40], Gen.Double[.01, 5], Gen.Int[0, 45], Gen.Double[.01, 1], Gen.Double[0, 1], Gen.Int).Sample((logits, temperature, topK, topP, minP, seed) =>
        {
            KvSampling options = new() { Temperature = temperature, TopK = topK, TopP = topP, MinP = minP, Seed = seed };
            int token = new KvSampler(options).Next(logits);
            return Expected(logits, options)[token] > 0;
        });
    }

    [Fact]
    public void Guesses_are_what_followed_the_last_such_end()
    {
        int[] draft = new int[4];
        Assert.Equal(4, PromptLookup.Guess([9, 1, 2, 3, 4, 5, 6, 7, 1, 2, 3], draft));
        Assert.Equal([4, 5, 6, 7], draft);
        Assert.Equal(2, PromptLookup.Guess([1, 2, 8, 1, 2, 5, 1, 2], draft.AsSpan(0, 2)));
        Assert.Equal([5, 1], draft[..2]);
        Assert.Equal(1, PromptLookup.Guess([6, 6], draft));
        Assert.Equal(6, draft[0]);
        Assert.Equal(0, PromptLookup.Guess([1, 2, 3], draft));
        Assert.Equal(0, PromptLookup.Guess([1], draft));
        Assert.Equal(0, PromptLookup.Guess([1, 1, 1], []));
    }

    private static double[] Expected(float[] logits, KvSampling options)
    {
        float largest = logits.Max();
        (int Token, double Weight)[] left = [.. logits.Select((logit, token) => (token, Math.Exp((logit - largest) / options.Temperature))).OrderByDescending(pair => pair.Item2).ThenBy(pair => pair.token)];
        left = options.TopK > 0 ? left[..Math.Min(options.TopK, left.Length)] : left;
        double wanted = left.Sum(pair => pair.Weight) * options.TopP;
        int count = 1;
        while (options.TopP < 1 && count < left.Length && left.Take(count).Sum(pair => pair.Weight) < wanted)
        {
            count++;
        }

        left = options.TopP < 1 ? left[..count] : left;
        left = [.. left.Where(pair => pair.Weight >= options.MinP * left[0].Weight)];
        double[] probabilities = new double[logits.Length];
        foreach ((int token, double weight) in left)
        {
            probabilities[token] = weight / left.Sum(pair => pair.Weight);
        }

        return probabilities;
    }
}
