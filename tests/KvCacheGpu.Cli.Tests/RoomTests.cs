using KvCacheGpu.Evaluation;
using KvCacheGpu.Llama;

namespace KvCacheGpu.Cli.Tests;

public sealed class RoomTests
{
    private const int Multiple = 64;

    [Theory]
    [InlineData(PageFormat.F16, 1)]
    [InlineData(PageFormat.I8, Multiple)]
    public void What_is_planned_for_prompts_that_part_anywhere_is_enough(PageFormat format, int multiple)
    {
        using LlamaModel model = DemoModel.Load();
        Random random = new(1);
        for (int trial = 0; trial < 24; trial++)
        {
            List<int[]> prompts = [Tokens(random, 1 + random.Next(200))];
            while (prompts.Count < 2 + (trial % 7))
            {
                int[] elder = prompts[random.Next(prompts.Count)];
                int common = random.Next(3) == 0 ? elder.Length / Multiple * Multiple : random.Next(elder.Length + 1);
                prompts.Add([.. elder[..common], .. Tokens(random, 1 + random.Next(70))]);
            }

            int[] newTokens = [.. prompts.Select(_ => 1 + random.Next(20))];
            SharedPrefixes shared = new([.. prompts], multiple);
            KvCacheOptions config = new()
            {
                Device = "cpu",
                MaxSequences = shared.Count,
                MaxTokens = (int)shared.Room(newTokens, model.Geometry().PageTokens),
                MaxBatchTokens = shared.StepTokens(Multiple * 2),
                KeyFormat = format,
                ValueFormat = format,
            };
            BatchReport report = new BatchGeneration(model, config).Run(shared, newTokens, temperature: 0, seed: 0);
            Assert.Equal(prompts, report.Runs.Select(r => r.PromptTokens));
            Assert.All(report.Runs.Zip(newTokens), r => Assert.InRange(r.First.Tokens.Count, 1, r.Second));
        }
    }

    private static int[] Tokens(Random random, int count) => [.. Enumerable.Range(0, count).Select(_ => 2 + random.Next(1000))];
}
