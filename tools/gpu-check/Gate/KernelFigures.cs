using System.Globalization;
using System.Text.RegularExpressions;

namespace KvCacheGpu.GpuCheck;

/// <summary>What a kernel takes, as ptxas and cuobjdump say it. Memory in bytes.</summary>
/// <param name="Name">The kernel's name.</param>
/// <param name="Architecture">"sm_90".</param>
/// <param name="Registers">Registers of a thread.</param>
/// <param name="Shared">Static shared memory of a block.</param>
/// <param name="Stack">Stack frame of a thread.</param>
/// <param name="SpillStores">What a thread stores there because it has no register left.</param>
/// <param name="SpillLoads">What it loads from there.</param>
/// <param name="IsFused">True if a product is fused with an addition where codes are made: it then rounds once instead of twice.</param>
/// <param name="BlockThreads">Threads of a block as the kernel declares them; 0 if it does not.</param>
/// <param name="Functions">The machine code; empty for a kernel without tensor-core instructions.</param>
internal sealed partial record KernelFigures(
    string Name,
    string Architecture,
    int Registers,
    int Shared,
    int Stack,
    int SpillStores,
    int SpillLoads,
    bool IsFused,
    int BlockThreads,
    IReadOnlyList<IReadOnlyList<SassInstruction>> Functions)
{
    private const int WarpThreads = 32;
    private const int MostWarps = 64;
    private const int MostBlocks = 32;

    /// <summary>True if it has tensor-core instructions.</summary>
    public bool IsTensor => Functions.Count > 0;

    /// <summary>Warps that a multiprocessor has room for: 64 Ki registers, given out to a warp in steps of 256, and its shared memory less 1 KiB a block.</summary>
    public int WarpsOfMultiprocessor
    {
        get
        {
            int warpsOfBlock = Math.Max(1, BlockThreads / WarpThreads);
            int registersOfWarp = (Registers * WarpThreads + 255) / 256 * 256;
            int blocks = Math.Min(MostBlocks, Math.Min(MostWarps, 65536 / registersOfWarp) / warpsOfBlock);
            int sharedKiB = Architecture == "sm_80" ? 164 : 228;
            return Math.Min(blocks, sharedKiB * 1024 / (Shared + 1024)) * warpsOfBlock;
        }
    }

    /// <summary>Reads what run.sh has left of a kernel beside its PTX: <c>.log</c> of ptxas, <c>.sass</c> of cuobjdump, and <c>.fused</c>.</summary>
    public static KernelFigures Read(string ptx)
    {
        string log = File.ReadAllText(Path.ChangeExtension(ptx, ".log"));
        string sass = Path.ChangeExtension(ptx, ".sass");
        return new KernelFigures(
            Path.GetFileNameWithoutExtension(ptx),
            Path.GetFileName(Path.GetDirectoryName(ptx)!),
            Number(Used().Matches(log)),
            Number(SharedBytes().Matches(log)),
            Number(StackBytes().Matches(log)),
            Number(StoreBytes().Matches(log)),
            Number(LoadBytes().Matches(log)),
            File.Exists(Path.ChangeExtension(ptx, ".fused")),
            Number(Threads().Matches(File.ReadAllText(ptx))),
            File.Exists(sass) ? SassCode.Parse(File.ReadLines(sass)) : []);
    }

    // The sum over functions; registers and threads are said of the one entry alone.
    private static int Number(MatchCollection matches) => matches.Sum(m => int.Parse(m.Groups[1].ValueSpan, CultureInfo.InvariantCulture));

    [GeneratedRegex(@"Used (\d+) registers")]
    private static partial Regex Used();

    [GeneratedRegex(@"(\d+) bytes smem")]
    private static partial Regex SharedBytes();

    [GeneratedRegex(@"(\d+) bytes stack frame")]
    private static partial Regex StackBytes();

    [GeneratedRegex(@"(\d+) bytes spill stores")]
    private static partial Regex StoreBytes();

    [GeneratedRegex(@"(\d+) bytes spill loads")]
    private static partial Regex LoadBytes();

    [GeneratedRegex(@"\.maxntid\s+(\d+)")]
    private static partial Regex Threads();
}
