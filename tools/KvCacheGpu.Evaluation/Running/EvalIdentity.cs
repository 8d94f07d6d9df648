using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using KvCacheGpu.Llama;

namespace KvCacheGpu.Evaluation;

/// <summary>The identity of a result: model, text, device, scale, task, seed and setting. Two results of the same identity are the same result.</summary>
public sealed class EvalIdentity
{
    // It is raised with every change to prompts, scores, runs or policies, so that old results are not taken for new ones.
    private const int Version = 4;
    private const int IdLength = 24;

    private readonly string _run;

    /// <summary>Makes the identity of a run.</summary>
    /// <param name="modelDirectory">The model's directory, whose files are read.</param>
    /// <param name="text">The text from which prompts are made.</param>
    /// <param name="device">The device's id.</param>
    /// <param name="scale">The size of tasks.</param>
    public EvalIdentity(string modelDirectory, string text, string device, EvalScale scale)
    {
        ArgumentNullException.ThrowIfNull(scale);
        Fingerprint = LlamaModel.FingerprintOf(modelDirectory);
        string sizes = string.Create(
            CultureInfo.InvariantCulture,
            $"{scale.Name} {scale.Tokens} {scale.Facts} {string.Join('/', scale.Lengths)} {scale.Segments} {scale.Context} {scale.Written}");
        _run = $"{Version}|{Fingerprint}|{Hex(SHA256.HashData(Encoding.UTF8.GetBytes(text)))}|{device}|{sizes}|{EvalScale.PageTokens}|{EvalScale.StepTokens}";
    }

    /// <summary>The first 24 digits of SHA-256 over the model's configuration, weights and tokenizer.</summary>
    public string Fingerprint { get; }

    /// <summary>The identity of one result.</summary>
    public string Of(EvalTask task, int seed, EvalSetting setting)
    {
        ArgumentNullException.ThrowIfNull(task);
        ArgumentNullException.ThrowIfNull(setting);
        string budget = setting.Budget?.ToString("R", CultureInfo.InvariantCulture) + (setting.AboveEmpty ? " above empty" : string.Empty);
        return Hex(SHA256.HashData(Encoding.UTF8.GetBytes($"{_run}|{task.Name}|{seed}|{setting.Format}|{setting.Policy}|{budget}|{EvalCaches.Meaning(setting)}")));
    }

    private static string Hex(byte[] hash) => Convert.ToHexStringLower(hash)[..IdLength];
}
