using System.Globalization;

namespace KvCacheGpu.GpuCheck;

/// <summary>What the page loop of a tensor-core kernel takes of a multiprocessor, for each (token, KV head) that a warp reads.</summary>
/// <param name="Loops">Loops with tensor-core instructions: the page loop and those in it.</param>
/// <param name="Instructions">All instructions but those of rare paths.</param>
/// <param name="Rare">Instructions of rare paths, which do not count, a pass of the page loop.</param>
/// <param name="Mma">Tensor-core instructions.</param>
/// <param name="HalfRate">LOP3, PRMT, SHF and FMNMX, which issue every second cycle.</param>
/// <param name="Shared">Accesses to shared memory.</param>
/// <param name="Loads16">Loads from global memory of 16 bytes a thread.</param>
/// <param name="Loads8">Those of 8 bytes.</param>
/// <param name="Loads4">Those of 4 bytes or less.</param>
/// <param name="BytesInFlight">The most bytes that a warp has asked for when it first waits for one of them, over two passes.</param>
internal sealed record PageLoopFigures(
    int Loops,
    double Instructions,
    int Rare,
    double Mma,
    double HalfRate,
    double Shared,
    double Loads16,
    double Loads8,
    double Loads4,
    int BytesInFlight)
{
    private const int WarpThreads = 32;

    private static readonly (string Kind, string[] Names)[] _kinds =
    [
        ("mma", ["HMMA", "IMMA"]),
        ("loads", ["LDG"]),
        ("shared memory", ["LDS", "STS", "LDSM", "ATOMS"]),
        ("bits", ["LOP3", "PRMT", "SHF", "SGXT", "BMSK", "ULOP3", "USHF"]),
        ("floats", ["FADD", "FMUL", "FFMA", "FMNMX", "FSETP", "FSEL", "MUFU", "HADD2", "HMUL2", "HFMA2", "HMNMX2"]),
        ("conversions", ["I2F", "I2FP", "F2I", "F2F", "F2FP", "FRND"]),
        ("lanes", ["MOVM", "SHFL", "VOTE", "VOTEU", "REDUX"]),
        ("integers", ["IADD3", "IMAD", "LEA", "ISETP", "IMNMX", "VIADD", "UIADD3", "UIMAD", "ULEA", "UISETP", "IDP", "IDP4A"]),
        ("moves", ["MOV", "UMOV", "SEL", "USEL", "CS2R", "R2UR", "S2R", "S2UR", "P2R", "R2P", "PLOP3", "UPLOP3"]),
    ];

    /// <summary>The instructions by kind, each for a (token, KV head), the most first. What is of no kind named here is "other": branches, stores, spills.</summary>
    public IReadOnlyList<(string Kind, double Count)> Kinds { get; init; } = [];

    /// <summary>Counts a function; null if it has no loop with tensor-core instructions.</summary>
    /// <param name="code">The function.</param>
    /// <param name="tokens">Tokens that a pass of each loop covers, in the order of <see cref="SassLoops.Find"/>. Where the compiler has unrolled inner loops,
    /// the last ones hold.</param>
    /// <exception cref="FormatException">There are more loops than <paramref name="tokens"/> names.</exception>
    public static PageLoopFigures? Of(IReadOnlyList<SassInstruction> code, IReadOnlyList<int> tokens)
    {
        IReadOnlyList<SassLoops.Loop> loops = SassLoops.Find(code);
        if (loops.Count == 0)
        {
            return null;
        }

        if (loops.Count > tokens.Count)
        {
            throw new FormatException(string.Create(
                CultureInfo.InvariantCulture, $"expected the tokens of {loops.Count} loops with mma (inner ones first), got those of {tokens.Count}"));
        }

        tokens = [.. tokens.TakeLast(loops.Count)];
        double Count(Func<SassInstruction, bool> which) => loops.Select((l, i) => (double)l.Hot.Count(which) / tokens[i]).Sum();
        return new PageLoopFigures(
            loops.Count,
            Count(_ => true),
            loops.Sum(l => l.Rare),
            Count(i => i.IsMma),
            Count(i => i.Name is "LOP3" or "PRMT" or "SHF" or "FMNMX"),
            Count(i => i.Name is "LDS" or "STS" or "LDSM" or "ATOMS"),
            Count(i => i.LoadBytes == 16),
            Count(i => i.LoadBytes == 8),
            Count(i => i.LoadBytes is > 0 and <= 4),
            InFlight([.. loops.SelectMany(l => l.Hot).OrderBy(i => i.Address)]))
        {
            Kinds =
            [
                .. _kinds.Select(kind => (kind.Kind, Count(i => KindOf(i) == kind.Kind))).Append(("other", Count(i => KindOf(i) == "other")))
                    .Where(kind => kind.Item2 > 0).OrderByDescending(kind => kind.Item2),
            ],
        };
    }

    // A register is moved by a product with one too, where that unit is free.
    private static string KindOf(SassInstruction instruction) =>
        instruction.Opcode.StartsWith("IMAD.MOV", StringComparison.Ordinal) ? "moves" : Array.Find(_kinds, kind => kind.Names.Contains(instruction.Name)).Kind ?? "other";

    // A warp waits at the first instruction that names a register which a load has yet to fill; loads end in the order of their issue.
    private static int InFlight(IReadOnlyList<SassInstruction> pass)
    {
        var pending = new List<(int First, int Last, int Bytes)>();
        int most = 0;
        foreach (SassInstruction instruction in pass.Concat(pass))
        {
            int[] named = [.. instruction.Registers()];
            bool isLoad = instruction.LoadBytes > 0;
            int oldest = pending.FindLastIndex(p => named.Any(r => r >= p.First && r <= p.Last));
            if (oldest >= 0)
            {
                most = Math.Max(most, pending.Sum(p => p.Bytes));
                pending.RemoveRange(0, oldest + 1);
            }

            if (isLoad)
            {
                pending.Add((named[0], named[0] + Math.Max(1, instruction.LoadBytes / 4) - 1, instruction.LoadBytes * WarpThreads));
            }
        }

        return Math.Max(most, pending.Sum(p => p.Bytes));
    }
}
