using System.CommandLine;
using System.Globalization;
using KvCacheGpu.Configuration;
using KvCacheGpu.Evaluation;
using KvCacheGpu.Llama;
using KvCacheGpu.Serving;

namespace KvCacheGpu.Cli;

/// <summary><c>kvcache run</c>: generates text through the cache.</summary>
internal static class RunCommand
{
    private const int DefaultNewTokens = 64;
    private const int LongestStep = Prompt.Most;
    private const int LabelLength = 72;

    /// <summary>Makes the command.</summary>
    public static Command Create(Terminal terminal)
    {
        Option<string?> model = Choice.Text("--model", "DIR", "A Llama model in Hugging Face layout. Default: the bundled demo model.");
        Option<string[]?> prompt = Choice.Texts("--prompt", "TEXT", "The text to continue. Given several times, all texts are continued at once.");
        Option<string?> promptFile = Choice.Text("--prompt-file", "F", "A UTF-8 file with the text to continue.");
        Option<string?> promptTokens = Choice.Text("--prompt-tokens", "1,2,3", "Token ids to continue, taken as they are; the model then needs no tokenizer.");
        Option<int?> newTokens = Choice.Number("--max-new-tokens", $"Tokens to generate at most. Default: {DefaultNewTokens}, within the model's context.", 1);
        Option<double?> temperature = Choice.Parsed<double?>(
            "--temperature", "T", "0 (default) is greedy and reproducible; above, tokens are drawn.", "a number of 0 or more", TryReadTemperature);
        Option<int?> seed = Choice.Number("--seed", "Seed of the draws. Default: 0.", int.MinValue);
        Option<string?> device = Choice.Text("--device", "auto|cuda[:i]|opencl[:i]|cpu|ilgpu-cpu", "Where the cache lives. Default: auto.");
        Option<PageFormat?> keyFormat = Choice.Format("--key-format", "Format of sealed keys. Default: what goes with --value-format, else f16.");
        Option<PageFormat?> valueFormat = Choice.Format("--value-format", "Format of sealed values. Default: what goes with --key-format, else f16.");
        Option<MemoryBudget?> budget = Choice.Budget();
        Option<PolicyName?> policy = Choice.Parsed<PolicyName?>(
            "--policy", "NAME", $"What goes and what shrinks where the budget binds: {PolicyName.Expected}. Default: none; window keeps {KvPolicies.WindowTokens} tokens and 4 sinks.", PolicyName.Expected, PolicyName.TryParse);
        Option<string?> configFile = Choice.Text("--config", "F", "A configuration, .yaml or .json, with .env and the environment over it; options win over all. Default: options alone.");
        Option<string?> save = Choice.Text("--save", "NAME", "Leave a snapshot behind, for --load to go on from.");
        Option<string?> load = Choice.Text("--load", "NAME", "Go on from a snapshot that --save left, or from an old cache file, .pt or .pkl; a prompt, if any, follows on what it holds.");
        Option<string?> store = StoreChoice.Store();
        Option<string> database = Choice.Database("A catalog to record the snapshot in");
        Option<bool> json = Choice.Json();
        Command command = new("run", "Generate text through the cache.")
        {
            model, prompt, promptFile, promptTokens, newTokens, temperature, seed, device, keyFormat, valueFormat, budget, policy, configFile,
            save, load, store, database, json,
        };
        Option<MemoryBudget?> offload = TierOptions.Offload("Bytes of host memory for pages that --policy lets go: attention goes on reading them. Default: none; they are lost.");
        command.Add(offload);
        TierOptions tierOptions = new TierOptions().AddTo(command);
        command.SetAction(parsed =>
        {
            // Settings are checked first, because a model may take minutes to load.
            KvFormats formats = FormatPair.Of(parsed.GetValue(keyFormat), parsed.GetValue(valueFormat));
            KvConfiguration? configuration = RunSettings.Load(parsed.GetValue(configFile), terminal);
            Prompt[] asked = Prompt.Choose(parsed.GetValue(prompt) ?? [], parsed.GetValue(promptFile), parsed.GetValue(promptTokens));
            SavedRun saved = SavedRun.Of(parsed.GetValue(store), parsed.GetValue(load), parsed.GetValue(save), asked.Length);
            using OpenTiers tiers = tierOptions.Open(parsed, configuration is { Enabled: true } ? configuration.Config : null);
            string deviceId = KvDevice.Resolve(parsed.GetValue(device) ?? "auto").Id;
            using LlamaModel loaded = parsed.GetValue(model) is { } directory ? LlamaModel.Load(RequireText("--model", directory)) : DemoModel.Load();
            saved = saved.For(loaded.Geometry());
            int[][] tokens = [.. asked.Select(p => saved.Load is null ? p.Tokens(loaded) : saved.Following(p.MoreTokens(loaded)))];
            int[] counts = [.. tokens.Select(t => NewTokens(saved.Tokens + t.Length, parsed.GetValue(newTokens), loaded.Config.MaxPositions))];
            MemoryBudget? memory = parsed.GetValue(budget);
            RunSettings settings = new(configuration, loaded.Geometry(), chosen =>
            {
                (chosen.Device, chosen.MaxSequences) = (deviceId, asked.Length);
                if (parsed.GetValue(keyFormat) is not null || parsed.GetValue(valueFormat) is not null)
                {
                    (chosen.KeyFormat, chosen.ValueFormat) = (formats.Key, formats.Value);
                }

                if (memory is { } limit)
                {
                    (chosen.MemoryBudgetBytes, chosen.MemoryBudgetPercent) = (limit.Bytes, limit.Percent);
                }

                chosen.Policy = parsed.GetValue(policy)?.Create() ?? chosen.Policy;
                chosen.Offload = parsed.GetValue(offload)?.Bytes is not { } away ? chosen.Offload
                    : chosen.Policy is null ? throw new UsageException(offload.Name, $"{policy.Name} with it, which lets pages go", "none")
                    : new KvOffload(away);
                tiers.Set(chosen);
                chosen.ModelFingerprint = saved.Store is null && tiers.Tiers.Count == 0 ? null : LlamaModel.FingerprintOf(loaded.Directory);
            });
            SharedPrefixes prompts = new(tokens, SharedMultiple(settings.For(1)));
            KvCacheOptions config = settings.For(MostTokens(saved.Tokens + prompts.Room(counts, loaded.Geometry().PageTokens)));
            config.MaxBatchTokens = prompts.StepTokens(configuration is null ? LongestStep : config.MaxBatchTokens);
            (double heat, int draws) = (parsed.GetValue(temperature) ?? 0, parsed.GetValue(seed) ?? 0);
            if (asked.Length > 1)
            {
                Write(terminal, loaded, asked, new BatchGeneration(loaded, config).Run(prompts, counts, heat, draws) with { Tiers = tiers.Report }, parsed.GetValue(json));
                return CommandLine.Done;
            }

            if (parsed.GetValue(database) is not null && saved.Save is null)
            {
                throw new UsageException(database.Name, "--save with it", "none");
            }

            if (loaded.TokenizerRefusal is { } refusal && !parsed.GetValue(json))
            {
                terminal.Error.WriteLine(Readable.Line($"[tokens as ids: {refusal.Message}]"));
            }

            GenerateOptions options = new() { MaxNewTokens = counts[0], Sampling = new KvSampling { Temperature = heat, Seed = draws } };
            Generation generation = new(loaded, config, terminal, saved);
            bool isJson = parsed.GetValue(json);
            RunReport report = generation.Run(tokens[0], options, streaming: !isJson) with { Tiers = tiers.Report };
            if (saved.Left is { } left)
            {
                CatalogRecord.Add(parsed.GetValue(database), CatalogRecord.Of(left, saved.Store!.StorePath, saved.Save), terminal.Error);
            }

            if (isJson)
            {
                terminal.WriteJson(report);
            }
            else
            {
                terminal.Error.WriteLine(Summary($"{report.Tokens.Count} tokens", report.TokensPerSecond, report.Device, report.Cache));
                WriteRemarks(terminal, report);
            }

            return CommandLine.Done;
        });
        return command;
    }

    // Texts that are generated at the same time cannot be streamed to one output, so each is written whole, under its prompt.
    private static void Write(Terminal terminal, LlamaModel model, Prompt[] prompts, BatchReport report, bool json)
    {
        if (json)
        {
            terminal.WriteJson(report);
            return;
        }

        for (int i = 0; i < prompts.Length; i++)
        {
            terminal.Output.WriteLine(Label(i + 1, prompts[i].Text!));
            TokenText text = new(model.Tokenizer, terminal.Output);
            foreach (int token in report.Runs[i].Tokens)
            {
                text.Write(token);
            }

            text.End();
        }

        int tokens = report.Runs.Sum(r => r.Tokens.Count);
        terminal.Error.WriteLine(Summary($"{prompts.Length} prompts, {tokens} tokens", report.TokensPerSecond, report.Device, report.Cache));
        WriteTiers(terminal, report.Tiers, report.ReusedTokens);
    }

    private static void WriteTiers(Terminal terminal, IReadOnlyList<TierReport>? tiers, int? reused)
    {
        if (tiers is not null)
        {
            terminal.Error.WriteLine(Readable.Line($"[{reused} tokens reused; {string.Join("; ", tiers)}]"));
        }
    }

    private static void WriteRemarks(Terminal terminal, RunReport report)
    {
        WriteTiers(terminal, report.Tiers, report.ReusedTokens);
        if (report.Offload is { } pages)
        {
            terminal.Error.WriteLine(Readable.Line(
                $"[{pages.Pages} pages in host memory, {Readable.Bytes(pages.Bytes)}; attention copied {pages.Fetched + pages.Prefetched}, found {pages.Staged} on the device, left out {pages.LeftOut}; {pages.Dropped} dropped]"));
        }

        if (report.Restored is { } restored)
        {
            terminal.Error.WriteLine(Readable.Line(
                $"[loaded {(restored.Exact ? "bit for bit" : $"with differences: {string.Join("; ", restored.Notes)}")}]"));
        }

        if (report.Saved is { } left)
        {
            terminal.Error.WriteLine(Readable.Line($"[saved {left.Name}, generation {left.Generation}: {Readable.Bytes(left.StoredBytes)} on disk]"));
        }
    }

    private static string Label(int number, string prompt)
    {
        string line = string.Concat(prompt.Select(c => char.IsControl(c) ? ' ' : c));
        int end = Math.Min(line.Length, LabelLength);
        end -= end < line.Length && char.IsHighSurrogate(line[end - 1]) ? 1 : 0;
        return $"[{number}] {line[..end]}{(end < line.Length ? "..." : string.Empty)}";
    }

    private static string Summary(string what, double speed, string device, CacheReport cache) => string.Create(
        CultureInfo.InvariantCulture,
        $"[{what}, {speed:F1} tokens/s on {device}; cache of {cache.Tokens} tokens: "
        + $"{Readable.Bytes(cache.AllocatedBytes)} allocated, dense F16 {Readable.Bytes(cache.FullPrecisionBytes)}]");

    // What is compressed or dropped when a step ends depends on where steps end: there, prompts part only where each alone would end one.
    private static int SharedMultiple(KvCacheOptions config) =>
        config.Policy is null && config.KeyFormat.IsFullPrecision() && config.ValueFormat.IsFullPrecision() ? 1 : LongestStep;

    private static int MostTokens(long room) =>
        room <= int.MaxValue ? (int)room : throw new UsageException("--prompt", $"prompts and continuations of at most {int.MaxValue} tokens in all", $"{room}");

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
