using System.CommandLine;
using System.Globalization;
using KvCacheGpu.Kernels;
using KvCacheGpu.Llama;

namespace KvCacheGpu.Cli;

/// <summary><c>kvcache run</c>: generates text through the cache.</summary>
internal static class RunCommand
{
    private const int DefaultNewTokens = 64;

    /// <summary>Makes the command.</summary>
    public static Command Create(Terminal terminal)
    {
        Option<string?> model = Choice.Text("--model", "DIR", "A Llama model in Hugging Face layout. Default: the bundled demo model.");
        Option<string?> prompt = Choice.Text("--prompt", "TEXT", "The text to continue.");
        Option<string?> promptFile = Choice.Text("--prompt-file", "F", "A UTF-8 file with the text to continue.");
        Option<string?> promptTokens = Choice.Text("--prompt-tokens", "1,2,3", "Token ids to continue, taken as they are; the model then needs no tokenizer.");
        Option<int?> newTokens = Choice.Number("--max-new-tokens", $"Tokens to generate at most. Default: {DefaultNewTokens}, within the model's context.", 1);
        Option<double?> temperature = Choice.Parsed<double?>(
            "--temperature", "T", "0 (default) is greedy and reproducible; above, tokens are drawn.", "a number of 0 or more", TryReadTemperature);
        Option<int?> seed = Choice.Number("--seed", "Seed of the draws. Default: 0.", int.MinValue);
        Option<string?> device = Choice.Text("--device", "auto|cuda[:i]|opencl[:i]|cpu|ilgpu-cpu", "Where the cache lives. Default: auto.");
        Option<PageFormat?> keyFormat = Choice.Format("--key-format", "Format of sealed keys. Default: f16.");
        Option<PageFormat?> valueFormat = Choice.Format("--value-format", "Format of sealed values. Default: f16.");
        Option<MemoryBudget?> budget = Choice.Budget();
        Option<PolicyName?> policy = Choice.Parsed<PolicyName?>(
            "--policy", "none|window[:tokens]", $"What is dropped. Default: none; window keeps {PolicyName.DefaultWindow} tokens and 4 sinks.", PolicyName.Expected, PolicyName.TryParse);
        Option<bool> json = Choice.Json();
        Command command = new("run", "Generate text through the cache.")
        {
            model, prompt, promptFile, promptTokens, newTokens, temperature, seed, device, keyFormat, valueFormat, budget, policy, json,
        };
        command.SetAction(parsed =>
        {
            // Cheap mistakes first: a model may take minutes to load.
            Prompt asked = Prompt.Choose(parsed.GetValue(prompt), parsed.GetValue(promptFile), parsed.GetValue(promptTokens));
            string deviceId = KvDevice.Resolve(parsed.GetValue(device) ?? "auto").Id;
            using LlamaModel loaded = parsed.GetValue(model) is { } directory ? LlamaModel.Load(RequireText("--model", directory)) : DemoModel.Load();
            int[] tokens = asked.Tokens(loaded);
            MemoryBudget? memory = parsed.GetValue(budget);
            int count = NewTokens(tokens.Length, parsed.GetValue(newTokens), loaded.Config.MaxPositions);
            KvCacheConfig config = new()
            {
                Device = deviceId,
                MaxTokens = tokens.Length + count,
                MaxSequences = 1,
                MaxBatchTokens = Math.Min(tokens.Length, 512),
                KeyFormat = parsed.GetValue(keyFormat) ?? PageFormat.F16,
                ValueFormat = parsed.GetValue(valueFormat) ?? PageFormat.F16,
                MemoryBudgetBytes = memory?.Bytes,
                MemoryBudgetPercent = memory?.Percent,
                Policy = parsed.GetValue(policy)?.Create(),
            };
            GenerateOptions options = new()
            {
                MaxNewTokens = count,
                Temperature = parsed.GetValue(temperature) ?? 0,
                Seed = parsed.GetValue(seed) ?? 0,
            };
            Generation generation = new(loaded, config, terminal);
            if (parsed.GetValue(json))
            {
                terminal.WriteJson(generation.Run(tokens, options, streaming: false));
            }
            else
            {
                RunReport report = generation.Run(tokens, options, streaming: true);
                terminal.Error.WriteLine(Summary(report));
            }

            return CommandLine.Done;
        });
        return command;
    }

    private static string Summary(RunReport report) => string.Create(
        CultureInfo.InvariantCulture,
        $"[{report.Tokens.Count} tokens, {report.TokensPerSecond:F1} tokens/s on {report.Device}; cache of {report.Cache.Tokens} tokens: "
        + $"{Readable.Bytes(report.Cache.AllocatedBytes)} allocated, dense F16 {Readable.Bytes(report.Cache.FullPrecisionBytes)}]");

    private static int NewTokens(int prompt, int? asked, int context)
    {
        int room = context - prompt;
        if (room < 1)
        {
            throw new UsageException("prompt", $"at most {context - 1} tokens (the model's context is {context})", $"{prompt}");
        }

        if (asked > room)
        {
            throw new UsageException("--max-new-tokens", $"at most {room} after a prompt of {prompt} tokens (the model's context is {context})", $"{asked}");
        }

        return asked ?? Math.Min(DefaultNewTokens, room);
    }

    private static bool TryReadTemperature(string text, out double? value)
    {
        value = double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double number) && double.IsFinite(number) ? number : null;
        return value >= 0;
    }

    private static string RequireText(string option, string text) =>
        text.Length > 0 ? text : throw new UsageException(option, "a directory", "an empty text");
}
