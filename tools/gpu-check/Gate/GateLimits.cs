using System.Globalization;
using System.Text.RegularExpressions;

namespace KvCacheGpu.GpuCheck;

/// <summary>A line of the gate's table: the most that kernels of a name may take.</summary>
/// <param name="Pattern">Names, * for any letters.</param>
/// <param name="Registers">Registers of a thread.</param>
/// <param name="Tensor">What a kernel with tensor-core instructions may take besides; null for other kernels.</param>
internal sealed record GateLimit(string Pattern, int Registers, TensorLimit? Tensor)
{
    /// <summary>True if the line holds for a name.</summary>
    public bool Matches(string name) => Regex.IsMatch(name, $"^{Regex.Escape(Pattern).Replace("\\*", ".*", StringComparison.Ordinal)}$");
}

/// <summary>Limits of a kernel with tensor-core instructions.</summary>
/// <param name="Instructions">Instructions of the page loop for each (token, KV head), at most.</param>
/// <param name="SpillBytes">Bytes that a thread stores because it has no register left, at most.</param>
/// <param name="KiBInFlight">Loads in flight of a multiprocessor, at least.</param>
/// <param name="SharedKiB">Static shared memory of a block, at most.</param>
/// <param name="Tokens">Tokens that a pass of each loop with mma covers, inner loops first; empty: one loop, whose tokens are the name's "-p64".</param>
internal sealed record TensorLimit(double Instructions, int SpillBytes, double KiBInFlight, int SharedKiB, IReadOnlyList<int> Tokens);

/// <summary>The gate's table. A name's first line holds.</summary>
internal static class GateTable
{
    /// <summary>Reads lines of "pattern registers", or "pattern registers instructions spill-bytes KiB-in-flight shared-KiB [tokens/tokens]".</summary>
    /// <exception cref="FormatException">A line is neither.</exception>
    public static IReadOnlyList<GateLimit> Parse(IEnumerable<string> lines) =>
        [.. lines.Where(l => l.Length > 0 && l[0] != '#' && !GateGoal.IsGoal(l)).Select(Line)];

    private static GateLimit Line(string line)
    {
        string[] words = line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
        try
        {
            return words switch
            {
                [string pattern, string registers] => new GateLimit(pattern, Whole(registers), null),
                [string pattern, string registers, string instructions, string spills, string flight, string shared, .. string[] rest] when rest.Length < 2 =>
                    new GateLimit(pattern, Whole(registers), new TensorLimit(
                        Number(instructions), Whole(spills), Number(flight), Whole(shared), [.. rest.SelectMany(r => r.Split('/')).Select(Whole)])),
                _ => throw new FormatException("expected 2, 6 or 7 words"),
            };
        }
        catch (FormatException e)
        {
            throw new FormatException($"limits: \"{line}\": {e.Message}", e);
        }
    }

    private static int Whole(string text) => int.Parse(text, CultureInfo.InvariantCulture);

    private static double Number(string text) => double.Parse(text, CultureInfo.InvariantCulture);
}
