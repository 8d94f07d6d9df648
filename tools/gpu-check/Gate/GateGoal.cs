using System.Globalization;

namespace KvCacheGpu.GpuCheck;

/// <summary>A line of the gate's table that begins with "goal": what a kernel's page loop should take one day. A goal that is missed fails nothing; it is told.</summary>
/// <param name="Kernel">The kernel's name.</param>
/// <param name="Instructions">Instructions of its page loop for each (token, KV head); NaN where <paramref name="Other"/> says it.</param>
/// <param name="Other">The kernel of which it should take no more; empty if there is a number.</param>
internal sealed record GateGoal(string Kernel, double Instructions, string Other)
{
    /// <summary>Reads the goals among the lines of a table: "goal kernel number" or "goal kernel kernel".</summary>
    /// <exception cref="FormatException">A line is neither.</exception>
    public static IReadOnlyList<GateGoal> Parse(IEnumerable<string> lines) => [.. lines.Where(IsGoal).Select(Line)];

    /// <summary>True if a line of the table is a goal.</summary>
    public static bool IsGoal(string line) => line.StartsWith("goal ", StringComparison.Ordinal);

    /// <summary>The number, by what was counted.</summary>
    public double Of(Func<string, PageLoopFigures?> counted) => Other.Length == 0 ? Instructions : counted(Other)?.Instructions ?? double.NaN;

    private static GateGoal Line(string line)
    {
        string[] words = line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
        return words is not [_, string kernel, string goal] ? throw new FormatException($"limits: \"{line}\": expected a kernel and a number, or another kernel")
            : double.TryParse(goal, NumberStyles.Float, CultureInfo.InvariantCulture, out double number) ? new GateGoal(kernel, number, string.Empty)
            : new GateGoal(kernel, double.NaN, goal);
    }
}
