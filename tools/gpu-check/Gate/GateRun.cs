using System.Globalization;
using System.Text.RegularExpressions;

namespace KvCacheGpu.GpuCheck;

/// <summary>Holds kernels to the gate's table and prints what each takes and what it misses.</summary>
internal sealed partial class GateRun(IReadOnlyList<GateLimit> limits, TextWriter console)
{
    private readonly HashSet<GateLimit> _used = [];
    private int _failures;

    /// <summary>What page loops should take one day.</summary>
    public IReadOnlyList<GateGoal> Goals { get; init; } = [];

    /// <summary>Checks every kernel of a folder "sm_80", "sm_90"; true if all are within their limits.</summary>
    public bool Check(string folder)
    {
        string[] files = [.. Directory.GetFiles(folder, "*.ptx", SearchOption.AllDirectories).Order(StringComparer.Ordinal)];
        return Check([.. files.Select(KernelFigures.Read)]);
    }

    /// <summary>Checks kernels; true if all are within their limits.</summary>
    public bool Check(IReadOnlyList<KernelFigures> kernels)
    {
        Print($"{"kernel",-28} {"arch",-6} {"registers",9} {"limit",6} {"shared",7} {"stack",6} {"spills",7}");
        foreach (KernelFigures kernel in kernels.Where(k => !k.IsTensor))
        {
            GateLimit? limit = Find(kernel);
            List<string> misses = Misses(kernel, limit);
            if (kernel.Shared > 0)
            {
                misses.Add("STATIC SHARED MEMORY");
            }

            if (kernel.Stack > 0)
            {
                misses.Add("STACK FRAME");
            }

            int spills = kernel.SpillStores + kernel.SpillLoads;
            if (spills > 0)
            {
                misses.Add("SPILLS");
            }

            Print($"{kernel.Name,-28} {kernel.Architecture,-6} {kernel.Registers,9} {limit?.Registers ?? -1,6} {kernel.Shared,7} {kernel.Stack,6} {spills,7}{Verdict(misses)}");
        }

        CheckTensor([.. kernels.Where(k => k.IsTensor)]);
        foreach (GateLimit limit in limits.Where(l => !_used.Contains(l)))
        {
            Print($"no kernel is named {limit.Pattern}");
            _failures++;
        }

        if (kernels.Count == 0)
        {
            Print($"no kernels");
            _failures++;
        }

        Print($"ptx-gate: {kernels.Count} kernels, {kernels.Select(k => k.Registers).DefaultIfEmpty().Max()} registers at most, {_failures} beyond their limits");
        return _failures == 0;
    }

    private void CheckTensor(KernelFigures[] kernels)
    {
        if (kernels.Length == 0)
        {
            return;
        }

        Print($"");
        Print($"kernels with tensor-core instructions: instructions (SASS), mma, half-rate instructions, accesses to shared memory and loads by bytes a thread, for each (token, KV head)");
        Print($"{"kernel",-28} {"arch",-6} {"SASS",6} {"limit",6} {"mma",5} {"half",5} {"smem",5} {"x16",5} {"x8",5} {"x4",5} {"rare",5} {"regs",5} {"spill",5} {"shared",7} {"warps",5} {"KiB in flight",13}");
        var mma = new Dictionary<string, double>();
        var counted = new List<(KernelFigures Kernel, PageLoopFigures Loop)>();
        foreach (KernelFigures kernel in kernels)
        {
            GateLimit? limit = Find(kernel);
            List<string> misses = Misses(kernel, limit);
            PageLoopFigures? loop = Count(kernel, limit?.Tensor, misses);

            if (loop is not null)
            {
                counted.Add((kernel, loop));
            }

            // The products are the same on every architecture: a difference says that a loop was not understood.
            double known = mma.TryAdd(kernel.Name, loop?.Mma ?? 0) ? loop?.Mma ?? 0 : mma[kernel.Name];
            AddMiss(misses, loop is not null && Math.Abs(loop.Mma - known) > 0.02 * known, "OTHER MMA THAN ON THE ARCHITECTURE BEFORE", loop?.Mma ?? 0, known);
            double flight = loop is null ? 0 : loop.BytesInFlight * (double)kernel.WarpsOfMultiprocessor / 1024;
            if (limit is { Tensor: null })
            {
                misses.Add("NO LIMITS FOR TENSOR-CORE INSTRUCTIONS");
            }
            else if (limit is { Tensor: { } tensor })
            {
                AddMiss(misses, loop?.Instructions > tensor.Instructions, "INSTRUCTIONS", loop?.Instructions ?? 0, tensor.Instructions);
                AddMiss(misses, kernel.SpillStores > tensor.SpillBytes, "SPILLS", kernel.SpillStores, tensor.SpillBytes);
                AddMiss(misses, kernel.Stack > (kernel.SpillStores + 15) / 16 * 16, "LOCAL MEMORY", kernel.Stack, kernel.SpillStores);
                AddMiss(misses, loop is not null && flight < tensor.KiBInFlight, "FEW LOADS IN FLIGHT", flight, tensor.KiBInFlight);
                AddMiss(misses, kernel.Shared > tensor.SharedKiB * 1024, "SHARED MEMORY", kernel.Shared, tensor.SharedKiB * 1024);
            }

            Print($"{kernel.Name,-28} {kernel.Architecture,-6} {loop?.Instructions,6:f2} {limit?.Tensor?.Instructions ?? -1,6:f1} {loop?.Mma,5:f2} {loop?.HalfRate,5:f2} {loop?.Shared,5:f2} {loop?.Loads16,5:f2} {loop?.Loads8,5:f2} {loop?.Loads4,5:f2} {loop?.Rare,5} {kernel.Registers,5} {kernel.SpillStores,5} {kernel.Shared,7} {kernel.WarpsOfMultiprocessor,5} {flight,13:f1}{Verdict(misses)}");
        }

        Print($"");
        PrintModel(counted);
        PrintGoals(counted);
    }

    // What each goal is missed by, and what the loop's instructions are.
    private void PrintGoals(List<(KernelFigures Kernel, PageLoopFigures Loop)> counted)
    {
        foreach ((int i, GateGoal goal) in Goals.Index())
        {
            if (i == 0)
            {
                Print($"goals: instructions for each (token, KV head), and of what kinds they are; what is missed and why is in docs/cuda.md");
                Print($"{"kernel",-28} {"arch",-6} {"SASS",6} {"goal",6} {"missed",7} kinds");
            }

            (KernelFigures Kernel, PageLoopFigures Loop)[] found = [.. counted.Where(c => c.Kernel.Name == goal.Kernel)];
            if (found.Length == 0)
            {
                Print($"no kernel is named {goal.Kernel}");
                _failures++;
            }

            foreach ((KernelFigures kernel, PageLoopFigures loop) in found)
            {
                double wanted = goal.Of(name => counted.Find(c => c.Kernel.Name == name && c.Kernel.Architecture == kernel.Architecture).Loop);
                string missed = loop.Instructions <= wanted ? "reached" : (loop.Instructions - wanted).ToString("f2", CultureInfo.InvariantCulture);
                string kinds = string.Join(", ", loop.Kinds.Select(k => string.Create(CultureInfo.InvariantCulture, $"{k.Kind} {k.Count:f2}")));
                Print($"{kernel.Name,-28} {kernel.Architecture,-6} {loop.Instructions,6:f2} {wanted,6:f2} {missed,7} {kinds}");
            }
        }

        Print($"");
    }

    // What the counts allow, as the documentation explains it.
    private void PrintModel(List<(KernelFigures Kernel, PageLoopFigures Loop)> counted)
    {
        var lines = from c in counted
                    from device in PaperDevice.All.Where(d => d.Architecture == c.Kernel.Architecture)
                    let bytes = PaperModel.BytesOf(c.Kernel.Name)
                    where bytes is not null
                    select (c.Kernel.Name, Device: device.Name, Bytes: bytes.Value, Model: PaperModel.Of(device, bytes.Value, c.Loop));
        foreach ((int i, var line) in lines.Index())
        {
            if (i == 0)
            {
                Print($"on paper, 1e9 (token, KV head) a second if one thing alone bound: memory, issue, half-rate instructions, mma; the least is what a kernel may reach");
                Print($"{"kernel",-28} {"device",-6} {"bytes",6} {"memory",7} {"issue",7} {"half",7} {"mma",7} {"least",7} {"of copy",8} {"issuing",8} bound by");
            }

            PaperModel m = line.Model;
            Print($"{line.Name,-28} {line.Device,-6} {line.Bytes,6:f0} {m.Memory,7:f1} {m.Issue,7:f1} {m.HalfRate,7:f1} {m.Mma,7:f1} {m.TokenHeads,7:f1} {m.OfCopy,8:p0} {m.IssueBusy,8:p0} {m.Bound}");
        }

        Print($"");
    }

    private static PageLoopFigures? Count(KernelFigures kernel, TensorLimit? limit, List<string> misses)
    {
        IReadOnlyList<int> tokens = limit is { Tokens.Count: > 0 } ? limit.Tokens
            : PageTokens().Match(kernel.Name) is { Success: true } match ? [int.Parse(match.Groups[1].ValueSpan, CultureInfo.InvariantCulture)]
            : [];
        try
        {
            PageLoopFigures? figures = kernel.Functions.Select(f => PageLoopFigures.Of(f, tokens)).FirstOrDefault(f => f is not null);
            if (figures is null)
            {
                misses.Add("NO LOOP WITH MMA");
            }

            return figures;
        }
        catch (FormatException e)
        {
            misses.Add(e.Message);
            return null;
        }
    }

    private GateLimit? Find(KernelFigures kernel)
    {
        GateLimit? limit = limits.FirstOrDefault(l => l.Matches(kernel.Name));
        if (limit is not null)
        {
            _used.Add(limit);
        }

        return limit;
    }

    private static List<string> Misses(KernelFigures kernel, GateLimit? limit)
    {
        var misses = new List<string>();
        if (limit is null)
        {
            misses.Add("NO LIMIT IN THE TABLE");
        }
        else
        {
            AddMiss(misses, kernel.Registers > limit.Registers, "TOO MANY REGISTERS", kernel.Registers, limit.Registers);
        }

        if (kernel.IsFused)
        {
            misses.Add("FUSED");
        }

        return misses;
    }

    private static void AddMiss(List<string> misses, bool isMissed, string what, double figure, double limit)
    {
        if (isMissed)
        {
            misses.Add(string.Create(CultureInfo.InvariantCulture, $"{what} ({figure:0.##} for {limit:0.##})"));
        }
    }

    private string Verdict(List<string> misses)
    {
        _failures += misses.Count > 0 ? 1 : 0;
        return string.Concat(misses.Select(m => " " + m));
    }

    private void Print(FormattableString line) => console.WriteLine(line.ToString(CultureInfo.InvariantCulture));

    [GeneratedRegex(@"-p(\d+)\b")]
    private static partial Regex PageTokens();
}
