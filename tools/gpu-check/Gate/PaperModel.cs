using System.Globalization;
using System.Text.RegularExpressions;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.GpuCheck;

/// <summary>A GPU as its maker describes it, for the model on paper.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Architecture">"sm_90".</param>
/// <param name="Multiprocessors">Multiprocessors, each with four schedulers that issue one instruction of a warp a cycle.</param>
/// <param name="GHz">Its clock under load.</param>
/// <param name="CopyGBps">What a copy moves, read and write counted, in 1e9 bytes/s.</param>
/// <param name="MmaCycles">Cycles that an mma of 16 x 8 x 16 in binary16, or of 16 x 8 x 32 in bytes, takes of a scheduler's tensor core.</param>
internal sealed record PaperDevice(string Name, string Architecture, int Multiprocessors, double GHz, double CopyGBps, double MmaCycles)
{
    /// <summary>
    /// H200: 4.3 of 4.8 TB/s are measured by a copy; its tensor cores are fed by mma.sync at six tenths of the published 4 cycles. A100 (80 GB): nine tenths of
    /// the published 2.04 TB/s; 312 Tflop/s are 8 cycles.
    /// </summary>
    public static IReadOnlyList<PaperDevice> All { get; } = [new("H200", "sm_90", 132, 1.75, 4300, 6.5), new("A100", "sm_80", 108, 1.41, 1830, 8)];

    /// <summary>Instructions that all schedulers issue, 1e9 a second.</summary>
    public double GigaIssues => Multiprocessors * 4 * GHz;
}

/// <summary>How many (token, KV head) a device could read in a second if one thing alone bound it, each 1e9.</summary>
/// <param name="Memory">By the bytes of a page.</param>
/// <param name="Issue">By the instructions of the page loop.</param>
/// <param name="HalfRate">By those that issue every second cycle.</param>
/// <param name="Mma">By the tensor cores.</param>
internal sealed partial record PaperModel(double Memory, double Issue, double HalfRate, double Mma)
{
    /// <summary>The least of the four, which no kernel exceeds.</summary>
    public double TokenHeads => Math.Min(Math.Min(Memory, Issue), Math.Min(HalfRate, Mma));

    /// <summary>The fraction of a copy's bandwidth that this is: 1 if memory binds.</summary>
    public double OfCopy => TokenHeads / Memory;

    /// <summary>The fraction of all issued instructions that the page loop takes then.</summary>
    public double IssueBusy => TokenHeads / Issue;

    /// <summary>What binds.</summary>
    public string Bound => TokenHeads == Memory ? "memory" : TokenHeads == Mma ? "mma" : TokenHeads == HalfRate ? "half rate" : "issue";

    /// <summary>The model of a kernel on a device.</summary>
    /// <param name="device">The device.</param>
    /// <param name="bytes">Bytes of pages for each (token, KV head).</param>
    /// <param name="loop">What the kernel's page loop takes of it.</param>
    public static PaperModel Of(PaperDevice device, double bytes, PageLoopFigures loop) => new(
        device.CopyGBps / bytes,
        device.GigaIssues / loop.Instructions,
        device.GigaIssues / 2 / loop.HalfRate,
        device.GigaIssues / device.MmaCycles / loop.Mma);

    /// <summary>Bytes for each (token, KV head) of the pages that a kernel reads, by its name, "tensor8-T4-V4-d128-p64"; null if it says no formats.</summary>
    public static double? BytesOf(string kernel)
    {
        Match match = Formats().Match(kernel);
        if (!match.Success || !Enum.TryParse(match.Groups[1].Value, out PageFormat key) || !Enum.TryParse(match.Groups[2].Value, out PageFormat value))
        {
            return null;
        }

        int Number(int group, int otherwise) =>
            match.Groups[group].Success ? int.Parse(match.Groups[group].ValueSpan, CultureInfo.InvariantCulture) : otherwise;
        int keyWidth = Number(3, 0), tokens = Number(5, 64);
        var geometry = new KvGeometry(layers: 1, queryHeads: 1, kvHeads: 1, keyWidth, Number(4, keyWidth), pageTokens: tokens);
        return (double)new PageLayout(geometry, key, value, hasDigest: false).Bytes / tokens;
    }

    [GeneratedRegex(@"^tensor\d*-(\w+)-(\w+)-d(\d+)(?:x(\d+))?(?:-p(\d+))?")]
    private static partial Regex Formats();
}
