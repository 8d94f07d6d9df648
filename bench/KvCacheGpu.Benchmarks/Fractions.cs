using System.Globalization;
using BenchmarkDotNet.Columns;
using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Reports;
using BenchmarkDotNet.Running;
using KvCacheGpu.Measuring;

namespace KvCacheGpu.Benchmarks;

/// <summary>What a benchmark moves and computes in one operation.</summary>
/// <param name="Device">The device that it runs on.</param>
/// <param name="Bytes">Bytes that it must move.</param>
/// <param name="Operations">Operations of the products of attention; 0 of other kernels.</param>
internal readonly record struct MeasuredWork(string Device, long Bytes, double Operations)
{
    /// <summary>The work of a case of a suite that measures kernels.</summary>
    public static MeasuredWork Of(BenchmarkCase benchmark)
    {
        object Value(string parameter) => benchmark.Parameters[parameter];
        return benchmark.Descriptor.Type.Name switch
        {
            nameof(AttendBenchmarks) => Of((AttendCase)Value(nameof(AttendBenchmarks.Case))),
            nameof(AppendBenchmarks) => new(
                (string)Value(nameof(AppendBenchmarks.Device)),
                AppendCache.BytesOfAppend((int)Value(nameof(AppendBenchmarks.Tokens)), (PageFormat)Value(nameof(AppendBenchmarks.Open))),
                0),
            nameof(EncodeBenchmarks) => Of((string)Value(nameof(EncodeBenchmarks.Device)), (PageFormat)Value(nameof(EncodeBenchmarks.Key))),
            string other => throw new NotSupportedException($"{other} has no bytes of its own"),
        };
    }

    private static MeasuredWork Of(AttendCase one) => new(one.Device, one.Shape.BytesRead, one.Shape.Operations);

    private static MeasuredWork Of(string device, PageFormat key) => new(
        device, AppendCache.BytesOfEncode(EncodeBenchmarks.Tokens, PageFormat.F16, key, EncodeBenchmarks.Pairs.First(pair => pair.Key == key).Value), 0);
}

/// <summary>Adds to a suite's table what its kernels reach of their device's own copy and tensor cores, which the same run measures once for each device.</summary>
public sealed class FractionsConfig : ManualConfig
{
    private static readonly Dictionary<string, (double CopyGBps, double PeakTflops)> _limits = [];

    /// <summary>Two columns.</summary>
    public FractionsConfig() => AddColumn(
        new Column("Of copy", "Bytes a second over those that the device copies", (work, seconds) => work.Bytes / seconds / 1e9 / LimitsOf(work.Device).CopyGBps),
        new Column("Of peak", "Operations a second over those of the device's tensor cores", (work, seconds) =>
            LimitsOf(work.Device).PeakTflops is > 0 and double peak ? work.Operations / seconds / 1e12 / peak : 0));

    private static (double CopyGBps, double PeakTflops) LimitsOf(string device)
    {
        if (!_limits.TryGetValue(device, out (double, double) known))
        {
            using var measured = new MeasuredDevice(KvDevice.Resolve(device));
            var benches = new KernelBenches(measured, seconds: 0);
            benches.MeasureLimits();
            _limits.Add(device, known = (benches.CopyGBps, benches.PeakTflops));
        }

        return known;
    }

    private sealed class Column(string name, string legend, Func<MeasuredWork, double, double> fraction) : IColumn
    {
        public string Id => $"{nameof(FractionsConfig)}.{name}";

        public string ColumnName => name;

        public bool AlwaysShow => true;

        public ColumnCategory Category => ColumnCategory.Custom;

        public int PriorityInCategory => 0;

        public bool IsNumeric => true;

        public UnitType UnitType => UnitType.Dimensionless;

        public string Legend => legend;

        public string GetValue(Summary summary, BenchmarkCase benchmarkCase)
        {
            double of = summary[benchmarkCase]?.ResultStatistics is { } times ? fraction(MeasuredWork.Of(benchmarkCase), times.Median / 1e9) : 0;
            return of > 0 ? of.ToString("p1", CultureInfo.InvariantCulture) : "-";
        }

        public string GetValue(Summary summary, BenchmarkCase benchmarkCase, SummaryStyle style) => GetValue(summary, benchmarkCase);

        public bool IsDefault(Summary summary, BenchmarkCase benchmarkCase) => false;

        public bool IsAvailable(Summary summary) => true;
    }
}
