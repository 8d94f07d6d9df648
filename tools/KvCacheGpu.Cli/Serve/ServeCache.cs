using System.CommandLine;
using KvCacheGpu.Evaluation;
using KvCacheGpu.Llama;
using KvCacheGpu.Serving;

namespace KvCacheGpu.Cli;

/// <summary>The options of a server's cache, named as those of <c>run</c>.</summary>
internal sealed class ServeCache
{
    private const int UsualConcurrency = 8;
    private const int UsualContext = 8192;

    // Waiting answers may have their sequences already.
    private const int SpareSequences = 4;

    private readonly Option<string?> _device = Choice.Text("--device", "auto|cuda[:i]|opencl[:i]|cpu|ilgpu-cpu", "Where the cache lives. Default: auto.");
    private readonly Option<PageFormat?> _keys = Choice.Format("--key-format", "Format of sealed keys. Default: what goes with --value-format, else f16.");
    private readonly Option<PageFormat?> _values = Choice.Format("--value-format", "Format of sealed values. Default: what goes with --key-format, else f16.");
    private readonly Option<MemoryBudget?> _budget = Choice.Budget();
    private readonly Option<PolicyName?> _policy = Choice.Parsed<PolicyName?>(
        "--policy", "NAME", $"What goes and what shrinks where the budget binds: {PolicyName.Expected}. Default: none; answers wait for room.", PolicyName.Expected, PolicyName.TryParse);

    private readonly Option<MemoryBudget?> _offload = TierOptions.Offload("Bytes of host memory for pages that --policy lets go: attention goes on reading them. Default: none; they are lost.");
    private readonly Option<int?> _tokens = Choice.Number("--max-tokens", $"Tokens that the cache holds. Default: four times the model's context, or four times {UsualContext} if that is less.", 1);
    private readonly Option<int?> _concurrency = Choice.Number("--max-concurrency", $"The most answers that run at once. Default: {UsualConcurrency}.", 1);
    private readonly Option<int?> _draft = Choice.Number("--draft", "The most tokens that are guessed ahead from what the sequence holds; answers stay the same. Default: 0.", 0);
    private readonly TierOptions _tiers = new();

    /// <summary>Adds the options to a command.</summary>
    public void AddTo(Command command)
    {
        foreach (Option option in new Option[] { _device, _keys, _values, _budget, _policy, _offload, _tokens, _concurrency, _draft })
        {
            command.Add(option);
        }

        _tiers.AddTo(command);
    }

    /// <summary>Loads the model and makes its cache.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="directory">The model's directory; null for the demo model.</param>
    public ServedCache Open(ParseResult parsed, string? directory)
    {
        KvFormats formats = FormatPair.Of(parsed.GetValue(_keys), parsed.GetValue(_values));
        if (parsed.GetValue(_offload) is not null && parsed.GetValue(_policy)?.Create() is null)
        {
            throw new UsageException(_offload.Name, $"{_policy.Name} with it, which lets pages go", "none");
        }

        string device = KvDevice.Resolve(parsed.GetValue(_device) ?? "auto").Id;
        OpenTiers tiers = _tiers.Open(parsed);
        LlamaServedModel? model = null;
        try
        {
            model = LlamaServedModel.Load(directory is null ? DemoModel.Directory : directory.Length > 0 ? directory : throw new UsageException("--model", "a directory", "an empty text"));
            return new ServedCache(model, tiers, Options(parsed, model.Model, formats, device, tiers), Scheduling(parsed));
        }
        catch
        {
            model?.Dispose();
            tiers.Dispose();
            throw;
        }
    }

    private KvSchedulerOptions Scheduling(ParseResult parsed) =>
        new() { MaxConcurrency = parsed.GetValue(_concurrency) ?? UsualConcurrency, DraftTokens = parsed.GetValue(_draft) ?? 0 };

    private KvCacheOptions Options(ParseResult parsed, LlamaModel model, KvFormats formats, string device, OpenTiers tiers)
    {
        MemoryBudget? budget = parsed.GetValue(_budget);
        int context = model.Config.MaxPositions;
        KvCacheOptions options = new()
        {
            Name = "serve",
            Device = device,
            MaxTokens = parsed.GetValue(_tokens) ?? 4 * Math.Min(context, UsualContext),
            MaxSequences = (parsed.GetValue(_concurrency) ?? UsualConcurrency) + SpareSequences,
            KeyFormat = formats.Key,
            ValueFormat = formats.Value,
            MemoryBudgetBytes = budget?.Bytes,
            MemoryBudgetPercent = budget?.Percent,
            Policy = parsed.GetValue(_policy)?.Create(),
            Offload = parsed.GetValue(_offload)?.Bytes is { } away ? new KvOffload(away) : null,
            PrefixReuse = true,

            // What the live page colours by attention.
            PageStatistics = true,
        };
        options.MaxSequenceTokens = Math.Min(context, options.MaxTokens);
        options.ExactRollbackTokens = Math.Max(options.ExactRollbackTokens, parsed.GetValue(_draft) ?? 0);
        options.DemotionFormats = EvalCaches.DemotionsOf(options, model.Geometry());
        tiers.Set(options);
        options.ModelFingerprint = tiers.Tiers.Count > 0 ? LlamaModel.FingerprintOf(model.Directory) : null;
        return options;
    }
}
