using System.Globalization;
using System.Text.RegularExpressions;

namespace KvCacheGpu.GpuCheck;

/// <summary>One machine instruction, as cuobjdump prints it.</summary>
/// <param name="Address">Its place in the function, in bytes.</param>
/// <param name="Predicate">"@P0", "@!UP1", or empty if every thread runs it.</param>
/// <param name="Opcode">Name and modifiers, "LDG.E.128".</param>
/// <param name="Operands">The rest, "R24, desc[UR6][R12.64+0x600]".</param>
internal sealed partial record SassInstruction(int Address, string Predicate, string Opcode, string Operands)
{
    /// <summary>The opcode without modifiers, "LDG".</summary>
    public string Name { get; } = Opcode.Split('.')[0];

    /// <summary>True if it multiplies matrices on a tensor core.</summary>
    public bool IsMma => Name is "HMMA" or "IMMA";

    /// <summary>True if no thread goes on to the next instruction.</summary>
    public bool Ends => Name is "EXIT" or "RET" or "BRX" or "JMX" or "KILL" && IsAlways;

    /// <summary>True if it is a branch that some threads may not take.</summary>
    public bool IsConditional => IsBranch && !IsAlways;

    /// <summary>Address that it branches to, or null.</summary>
    public int? Target => IsBranch && Address_().Match(Operands) is { Success: true } match
        ? int.Parse(match.Groups[1].ValueSpan, NumberStyles.HexNumber, CultureInfo.InvariantCulture)
        : null;

    /// <summary>Bytes that a thread loads from global memory; 0 for other instructions.</summary>
    public int LoadBytes => Name != "LDG" ? 0
        : Has("128") ? 16
        : Has("64") ? 8
        : Has("U8") || Has("S8") ? 1
        : Has("U16") || Has("S16") ? 2
        : 4;

    // For sm_80 ptxas closes some loops by a conditional call of what lies behind them, which never returns.
    private bool IsBranch => Name == "BRA" || (Name == "CALL" && Predicate.Length > 0);

    // A branch is conditional by a predicate before it, by one among its operands, or because it asks if the warp has diverged.
    private bool IsAlways => Predicate.Length == 0 && !Has("DIV") && !Predicates().IsMatch(Operands);

    /// <summary>The registers that it names, each of which it reads or writes, with those that follow where an operand is wider than one.</summary>
    public IEnumerable<int> Registers()
    {
        int operand = 0;
        foreach (Match match in Register().Matches(Operands))
        {
            int first = int.Parse(match.Groups[1].ValueSpan, CultureInfo.InvariantCulture);
            int count = Width(operand++, match.Groups[2].Success);
            for (int i = 0; i < count; i++)
            {
                yield return first + i;
            }
        }
    }

    // Sums and the left factor of a product of matrices take four registers, the right factor two.
    private int Width(int operand, bool isPair)
    {
        bool isData = Name is "LDG" or "LDS" or "LDL" ? operand == 0 : Name is "STG" or "STS" or "STL" && operand > 0;
        return isPair ? 2
            : IsMma ? (operand == 2 ? 2 : 4)
            : !isData ? 1
            : Has("128") ? 4
            : Has("64") ? 2
            : 1;
    }

    private bool Has(string modifier) => Opcode.Split('.').Skip(1).Contains(modifier);

    [GeneratedRegex(@"\b0x([0-9a-f]+)\b")]
    private static partial Regex Address_();

    [GeneratedRegex(@"(?<![\w])U?P\d")]
    private static partial Regex Predicates();

    [GeneratedRegex(@"(?<![\w])R(\d+)(\.64)?")]
    private static partial Regex Register();
}

/// <summary>The instructions of a function of machine code.</summary>
internal static partial class SassCode
{
    /// <summary>The functions of a listing of <c>cuobjdump -sass</c>; encodings and headers are left out.</summary>
    public static IReadOnlyList<IReadOnlyList<SassInstruction>> Parse(IEnumerable<string> listing)
    {
        var functions = new List<List<SassInstruction>>();
        foreach (string line in listing)
        {
            if (line.Contains("Function :", StringComparison.Ordinal))
            {
                functions.Add([]);
            }
            else if (Line().Match(line) is { Success: true } match && functions.Count > 0)
            {
                functions[^1].Add(new SassInstruction(
                    int.Parse(match.Groups["at"].ValueSpan, NumberStyles.HexNumber, CultureInfo.InvariantCulture),
                    match.Groups["if"].Value,
                    match.Groups["op"].Value,
                    match.Groups["rest"].Value.Trim()));
            }
        }

        return functions;
    }

    [GeneratedRegex(@"^\s*/\*(?<at>[0-9a-f]{4,6})\*/\s+(?:\{\s*)?(?<if>@!?U?P\w+)?\s*(?<op>[A-Z][\w.]*)(?<rest>[^;]*);")]
    private static partial Regex Line();
}
