using System.Globalization;

namespace KvCacheGpu.GpuCheck.Tests;

/// <summary>The gate's counting on listings whose figures are known, and its verdicts.</summary>
public sealed class GateTests
{
    // A pass of 8 instructions with two mma, and a rare path of 3.
    private const string Plain = """
        S2R R0, SR_TID.X
        CS2R R8, SRZ
        pass: LDG.E.128 R12, desc[UR6][R16.64]
        LDG.E.64 R4, desc[UR6][R16.64+0x800]
        HMMA.16816.F32 R20, R12, R2, RZ
        FSETP.GT.AND P0, PT, R20, UR5, PT
        @!P0 BRA join
        MUFU.EX2 R20, R20
        MUFU.EX2 R21, R21
        MUFU.EX2 R22, R22
        join: LOP3.LUT R12, R20, R21, RZ, 0x3c, !PT
        HMMA.16816.F32 R8, R4, R12, R8
        @P1 BRA pass
        STG.E.128 desc[UR6][R2.64], R8
        EXIT
        """;

    [Fact]
    public void A_page_loop_counts_without_the_path_that_a_branch_skips()
    {
        PageLoopFigures loop = Count(Plain, 4);
        Assert.Equal((1, 8 / 4.0, 3), (loop.Loops, loop.Instructions, loop.Rare));
        Assert.Equal((2 / 4.0, 1 / 4.0, 0), (loop.Mma, loop.HalfRate, loop.Shared));
        Assert.Equal((1 / 4.0, 1 / 4.0, 0), (loop.Loads16, loop.Loads8, loop.Loads4));
    }

    /// <summary>The same kernel as a compiler may lay it: the rare path behind the loop, from where it jumps back.</summary>
    [Fact]
    public void A_rare_path_behind_the_loop_is_neither_a_loop_nor_counted()
    {
        PageLoopFigures loop = Count(
            """
            pass: LDG.E.128 R12, desc[UR6][R16.64]
            LDG.E.64 R4, desc[UR6][R16.64+0x800]
            HMMA.16816.F32 R20, R12, R2, RZ
            FSETP.GT.AND P0, PT, R20, UR5, PT
            @P0 BRA rare
            join: LOP3.LUT R12, R20, R21, RZ, 0x3c, !PT
            HMMA.16816.F32 R8, R4, R12, R8
            @P1 BRA pass
            EXIT
            rare: MUFU.EX2 R20, R20
            MUFU.EX2 R21, R21
            BRA join
            """,
            4);
        Assert.Equal((1, 8 / 4.0, 3), (loop.Loops, loop.Instructions, loop.Rare));
    }

    [Fact]
    public void Of_two_paths_that_exclude_each_other_the_shorter_counts()
    {
        PageLoopFigures loop = Count(
            """
            pass: HMMA.16816.F32 R20, R12, R2, RZ
            @!P0 BRA other
            MUFU.EX2 R20, R20
            MUFU.EX2 R21, R21
            MUFU.EX2 R22, R22
            BRA join
            other: MUFU.EX2 R20, R20
            join: BRA.U !UP0, pass
            EXIT
            """,
            1);
        Assert.Equal((4.0, 4), (loop.Instructions, loop.Rare));
    }

    /// <summary>Whole pages are multiplied one way, cut ones another.</summary>
    [Fact]
    public void Of_two_ways_to_multiply_the_shorter_counts()
    {
        PageLoopFigures loop = Count(
            "pass: @P0 BRA cut\nHMMA.16816.F32 R20, R12, R2, RZ\nBRA join\ncut: LOP3.LUT R2, R2, R3, RZ, 0xc0, !PT\nLOP3.LUT R2, R2, R3, RZ, 0xc0, !PT\nHMMA.16816.F32 R20, R12, R2, RZ\njoin: @P1 BRA pass\nEXIT", 1);
        Assert.Equal((4.0, 1.0, 3), (loop.Instructions, loop.Mma, loop.Rare));
    }

    /// <summary>What some lanes alone store, such as a page's statistics, the warp runs in every pass.</summary>
    [Fact]
    public void A_path_that_stores_to_global_memory_counts()
    {
        PageLoopFigures loop = Count("pass: HMMA.16816.F32 R20, R12, R2, RZ\n@P0 BRA join\nSTG.E [R4.64], R20\njoin: FADD R1, R1, R2\n@P1 BRA pass\nEXIT", 1);
        Assert.Equal((5.0, 0), (loop.Instructions, loop.Rare));
    }

    /// <summary>A page that is skipped whole, an inner loop without mma, and a branch that leaves the loop: none of them is rare.</summary>
    [Fact]
    public void What_holds_mma_and_what_repeats_counts()
    {
        PageLoopFigures loop = Count(
            """
            pass: IADD3 R1, R1, 0x1, RZ
            @P2 BRA next
            HMMA.16816.F32 R20, R12, R2, RZ
            again: STS [R3], R20
            @P1 BRA again
            next: @P3 BRA out
            FADD R4, R4, R5
            BRA pass
            out: EXIT
            """,
            1);
        Assert.Equal((1, 8.0, 0), (loop.Loops, loop.Instructions, loop.Rare));
        Assert.Equal(1.0, loop.Shared);
    }

    [Theory]
    [InlineData("@P0 BRA tile")]
    [InlineData("@!P0 CALL.REL.NOINC after\nBRA tile")]
    public void An_inner_loop_counts_by_its_own_tokens(string closing)
    {
        string sass = $"""
            page: LDG.E R1, [R2.64]
            tile: HMMA.16816.F32 R20, R12, R4, RZ
            LDS R6, [R7]
            {closing}
            after: FADD R8, R8, R9
            FADD R10, R10, R9
            @P1 BRA page
            EXIT
            """;
        double closings = closing.Split('\n').Length;
        PageLoopFigures loop = Count(sass, 16, 64);
        Assert.Equal(2, loop.Loops);
        Assert.Equal(((2 + closings) / 16) + (4 / 64.0), loop.Instructions);
        Assert.Equal(1 / 16.0, loop.Mma);

        // Tokens of one loop do not say how the two share them.
        Assert.Throws<FormatException>(() => Count(sass, 64));
    }

    /// <summary>Loads count until the first instruction that names what one of them has yet to bring, in the next pass too.</summary>
    [Theory]
    [InlineData("LDG.E.128 R4, [R0.64]\nLDG.E.128 R8, [R0.64+0x10]\nHMMA.16816.F32 R20, R4, R2, RZ\nHMMA.16816.F32 R24, R8, R2, RZ", 32 * 32)]
    [InlineData("LDG.E.128 R4, [R0.64]\nHMMA.16816.F32 R20, R4, R2, RZ\nLDG.E.128 R8, [R0.64+0x10]\nHMMA.16816.F32 R24, R8, R2, RZ", 16 * 32)]
    [InlineData("HMMA.16816.F32 R20, R4, R2, RZ\nLDG.E.128 R8, [R0.64]\nHMMA.16816.F32 R24, R12, R2, RZ\nLDG.E.64 R4, [R0.64+0x10]", 24 * 32)]
    [InlineData("LDG.E.128 R4, [R0.64]\nLDG.E.U16 R8, [R0.64+0x10]\nHMMA.16816.F32 R20, R12, R6, RZ", 18 * 32)]
    public void Loads_are_in_flight_until_one_is_waited_for(string body, int bytes) =>
        Assert.Equal(bytes, Count($"pass: IADD3 R0, R0, 0x1, RZ\n{body}\n@P0 BRA pass\nEXIT", 1).BytesInFlight);

    [Fact]
    public void A_kernel_without_mma_has_no_page_loop() =>
        Assert.Null(PageLoopFigures.Of(Code("again: FADD R0, R0, R1\n@P0 BRA again\nEXIT"), [1]));

    /// <summary>168 registers leave room for three blocks of 128 threads, as the launch bounds ask; 160 for no more, 128 for four; shared memory may bind first.</summary>
    [Theory]
    [InlineData(168, 0, "sm_90", 12)]
    [InlineData(169, 0, "sm_90", 8)]
    [InlineData(128, 0, "sm_90", 16)]
    [InlineData(24, 0, "sm_90", 64)]
    [InlineData(24, 64 << 10, "sm_90", 12)]
    [InlineData(24, 64 << 10, "sm_80", 8)]
    public void Warps_of_a_multiprocessor_follow_from_registers_and_shared_memory(int registers, int shared, string architecture, int warps) =>
        Assert.Equal(warps, Tensor(registers, shared, 0, architecture).WarpsOfMultiprocessor);

    [Theory]
    [InlineData("tensor* 168 2 48 9 16", "")]
    [InlineData("tensor* 167 2 48 9 16", "TOO MANY REGISTERS (168 for 167)")]
    [InlineData("tensor* 168 1.9 48 9 16", "INSTRUCTIONS (2 for 1.9)")]
    [InlineData("tensor* 168 2 39 9 16", "SPILLS (40 for 39)")]
    [InlineData("tensor* 168 2 48 9 15", "SHARED MEMORY (16384 for 15360)")]
    [InlineData("tensor* 168 2 48 1000 16", "FEW LOADS IN FLIGHT (9 for 1000)")]
    [InlineData("tensor* 168", "NO LIMITS FOR TENSOR-CORE INSTRUCTIONS")]
    [InlineData("other 168 2 48 9 16", "NO LIMIT IN THE TABLE")]
    [InlineData("other 168 2 48 9 16", "no kernel is named other")]
    public void Each_limit_that_is_missed_is_told(string line, string miss)
    {
        (bool passed, string report) = Check([line], Tensor(168, 16 << 10, 40));
        Assert.True(passed == (miss.Length == 0), report);
        Assert.Contains(miss, report, StringComparison.Ordinal);
    }

    [Fact]
    public void A_kernel_without_tensor_cores_has_neither_shared_memory_nor_spills()
    {
        KernelFigures plain = Tensor(24, 0, 0) with { Functions = [], Name = "merge" };
        Assert.True(Check(["merge 24"], plain).Passed);
        Assert.Contains("TOO MANY REGISTERS (24 for 23)", Check(["merge 23"], plain).Report, StringComparison.Ordinal);
        Assert.Contains("STATIC SHARED MEMORY", Check(["merge 24"], plain with { Shared = 4 }).Report, StringComparison.Ordinal);
        Assert.Contains("STACK FRAME", Check(["merge 24"], plain with { Stack = 4 }).Report, StringComparison.Ordinal);
        Assert.Contains("SPILLS", Check(["merge 24"], plain with { SpillLoads = 4 }).Report, StringComparison.Ordinal);
        Assert.Contains("FUSED", Check(["merge 24"], plain with { IsFused = true }).Report, StringComparison.Ordinal);
        Assert.Contains("no kernels", Check([]).Report, StringComparison.Ordinal);
    }

    [Fact]
    public void A_loop_that_was_understood_otherwise_on_another_architecture_is_told()
    {
        KernelFigures kernel = Tensor(168, 0, 0);
        KernelFigures other = kernel with { Architecture = "sm_80", Functions = [Code(Plain.Replace("HMMA.16816.F32 R8", "FADD R8", StringComparison.Ordinal))] };
        (bool passed, string report) = Check(["tensor* 168 2 48 0 16"], kernel, other);
        Assert.False(passed);
        Assert.Contains("OTHER MMA", report, StringComparison.Ordinal);
    }

    /// <summary>132 multiprocessors of four schedulers at 1.75 GHz issue 924 G; at 148 bytes and 20.5 instructions, 10 of them at half rate, memory binds.</summary>
    [Fact]
    public void The_model_on_paper_is_the_least_of_four_rates()
    {
        PaperDevice h200 = PaperDevice.All[0];
        var loop = new PageLoopFigures(1, 20, 0, 2, 10, 0, 0, 0, 0, 0);
        PaperModel model = PaperModel.Of(h200, 148, loop);
        Assert.Equal((4300 / 148.0, 924 / 20.0, 924 / 20.0, 924 / 13.0), (model.Memory, model.Issue, model.HalfRate, model.Mma));
        Assert.Equal((4300 / 148.0, 1.0, "memory"), (model.TokenHeads, model.OfCopy, model.Bound));
        Assert.Equal(4300 / 148.0 * 20 / 924, model.IssueBusy, 9);
        Assert.Equal(("issue", 924 / 40.0), Bound(loop with { Instructions = 40 }));
        Assert.Equal(("half rate", 924 / 2 / 20.0), Bound(loop with { HalfRate = 20 }));
        Assert.Equal(("mma", 924 / 6.5 / 8), Bound(loop with { Mma = 8 }));

        (string, double) Bound(PageLoopFigures figures)
        {
            PaperModel other = PaperModel.Of(h200, 148, figures);
            return (other.Bound, other.TokenHeads);
        }
    }

    [Theory]
    [InlineData("tensor8-F16-F16-d128-p64", 512)]
    [InlineData("tensor4-I8-I8-d128-p64", 260)]
    [InlineData("tensor4-T4-V4-d128-p64", 148)]
    [InlineData("tensor8-F16-F16-d64x32-p32", 192)]
    public void A_kernels_name_says_the_bytes_that_it_reads(string name, double bytes) => Assert.InRange(PaperModel.BytesOf(name)!.Value, bytes - 1, bytes + 1);

    /// <summary>The table of docs/cuda.md: bytes, what memory allows, and the instructions that half of all cycles leave at the target.</summary>
    [Theory]
    [InlineData("F16", "tensor8-F16-F16-d128-p64", 90)]
    [InlineData("I8", "tensor8-I8-I8-d128-p64", 85)]
    [InlineData("T4/V4", "tensor8-T4-V4-d128-p64", 75)]
    public void The_documented_table_is_the_models(string format, string kernel, int target)
    {
        string folder = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(folder, "KvCacheGpu.sln")))
        {
            folder = Path.GetDirectoryName(folder)!;
        }

        double bytes = PaperModel.BytesOf(kernel)!.Value;
        PaperDevice h200 = PaperDevice.All[0];
        double instructions = h200.GigaIssues / 2 / (h200.CopyGBps / bytes * target / 100);
        string line = string.Create(
            CultureInfo.InvariantCulture,
            $"| {format} | {bytes:f0} | {h200.CopyGBps / bytes:f1} | {PaperDevice.All[1].CopyGBps / bytes:f1} | {target} % | {instructions:f0} |");
        Assert.Contains(line, File.ReadAllText(Path.Combine(folder, "docs", "cuda.md")), StringComparison.Ordinal);
    }

    [Fact]
    public void Kernels_of_named_formats_are_printed_with_what_the_model_allows()
    {
        string report = Check(["tensor* 168 2 48 0 16"], Tensor(168, 0, 0), Tensor(168, 0, 0, "sm_80")).Report;
        Assert.Contains("on paper", report, StringComparison.Ordinal);
        Assert.Equal(["H200", "A100"], report.Split('\n').Where(l => l.TrimEnd().EndsWith("% memory", StringComparison.Ordinal)).Select(l => l.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1]));
        Assert.Null(PaperModel.BytesOf("tensor8-selftest-d16-p16"));
    }

    /// <summary>A goal that is missed is told with what the loop's instructions are, and passes; one for a kernel that is not there fails.</summary>
    [Theory]
    [InlineData("goal tensor8-F16-F16-d128-p4 1.75", true, "2.00   1.75    0.25")]
    [InlineData("goal tensor8-F16-F16-d128-p4 2", true, "2.00   2.00 reached")]
    [InlineData("goal tensor8-F16-F16-d128-p4 tensor8-F16-F16-d128-p4", true, "2.00   2.00 reached")]
    [InlineData("goal tensor8-I8-I8-d128-p4 2", false, "no kernel is named tensor8-I8-I8-d128-p4")]
    public void Goals_are_told_and_fail_nothing(string line, bool passes, string told)
    {
        string[] table = ["tensor* 168 2 48 9 16", line];
        using var console = new StringWriter();
        bool passed = new GateRun(GateTable.Parse(table), console) { Goals = GateGoal.Parse(table) }.Check([Tensor(168, 16 << 10, 40)]);
        Assert.True(passed == passes, console.ToString());
        Assert.Contains(told, console.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void Instructions_are_told_by_kind()
    {
        PageLoopFigures loop = Count("page: LDG.E.128 R4, [R0.64]\nHMMA.16816.F32 R8, R4, R2, RZ\nIMAD.MOV.U32 R12, RZ, RZ, R8\nMOV R13, R9\nIMAD R14, R12, R13, RZ\nLOP3.LUT R15, R14, 0xf, RZ, 0xc0, !PT\n@P0 BRA page\nEXIT", 1);
        Assert.Equal(loop.Instructions, loop.Kinds.Sum(kind => kind.Count));
        Assert.Equal([("moves", 2.0), ("bits", 1.0), ("integers", 1.0), ("loads", 1.0), ("mma", 1.0), ("other", 1.0)], loop.Kinds.OrderByDescending(k => k.Count).ThenBy(k => k.Kind, StringComparer.Ordinal));
    }

    [Theory]
    [InlineData("goal tensor8-F16-F16-d128-p4")]
    [InlineData("goal tensor8-F16-F16-d128-p4 2 3")]
    public void A_goal_that_is_none_is_refused_by_its_text(string line) => Assert.Contains(line, Assert.Throws<FormatException>(() => GateGoal.Parse([line])).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("tensor*")]
    [InlineData("tensor* 168 2")]
    [InlineData("tensor* many")]
    [InlineData("tensor* 168 2 48 9 16 16/64 7")]
    public void A_line_that_is_none_is_refused_by_its_text(string line) =>
        Assert.Contains(line, Assert.Throws<FormatException>(() => GateTable.Parse([line])).Message, StringComparison.Ordinal);

    private static (bool Passed, string Report) Check(string[] limits, params KernelFigures[] kernels)
    {
        using var console = new StringWriter();
        bool passed = new GateRun(GateTable.Parse(limits), console).Check(kernels);
        return (passed, console.ToString());
    }

    private static KernelFigures Tensor(int registers, int shared, int spills, string architecture = "sm_90") =>
        new("tensor8-F16-F16-d128-p4", architecture, registers, shared, spills, spills, spills, false, 128, [Code(Plain)]);

    private static PageLoopFigures Count(string sass, params int[] tokens) => PageLoopFigures.Of(Code(sass), tokens)!;

    // Lines of "label: instruction" as cuobjdump lists them: an address each, branches by address, encodings beside.
    private static IReadOnlyList<SassInstruction> Code(string sass)
    {
        string[] lines = sass.Split('\n', StringSplitOptions.TrimEntries);
        var labels = new Dictionary<string, int>();
        for (int i = 0; i < lines.Length; i++)
        {
            if (lines[i].Split(": ") is [string label, string rest])
            {
                labels[label] = i * 16;
                lines[i] = rest;
            }
        }

        IEnumerable<string> listing = lines.SelectMany((line, i) =>
        {
            foreach ((string label, int at) in labels)
            {
                line = line.EndsWith(" " + label, StringComparison.Ordinal) ? line[..^label.Length] + string.Create(CultureInfo.InvariantCulture, $"0x{at:x}") : line;
            }

            return new[]
            {
                string.Create(CultureInfo.InvariantCulture, $"        /*{i * 16:x4}*/                   {line} ;      /* 0x0000000000007919 */"),
                "                                                      /* 0x000e220000000800 */",
            };
        });
        return Assert.Single(SassCode.Parse(["\t\tFunction : Kernel_Run", "\t.headerflags\t@\"EF_CUDA_SM90\"", .. listing]));
    }
}
