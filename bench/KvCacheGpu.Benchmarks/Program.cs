using System.Diagnostics;
using KvCacheGpu.Benchmarks;
using KvCacheGpu.Kernels;

int threads = args.Length > 0 ? int.Parse(args[0]) : 0;
using var pool = new WorkerPool(threads == 0 ? Environment.ProcessorCount : threads);
using var bw = new Bandwidth(pool);
double Time(Action a, int n) { a(); var ts = new List<double>(); for (int i = 0; i < n; i++) { long s = Stopwatch.GetTimestamp(); a(); ts.Add(Stopwatch.GetElapsedTime(s).TotalSeconds); } ts.Sort(); return ts[n / 5]; }
foreach (var f in new[] { PageFormat.F16, PageFormat.I8 })
foreach (var (n, c) in new[] { (1, 32768), (32, 1024), (1, 1024) })
{
    bool small = n == 1 && c == 1024;
    var shape = new AttendShape(128, small ? 1 : 8, 4, n, c, f);
    using var cache = new FilledCache(shape, (s, b) => new SimdTier(s, b, SimdLevel.Auto, threads));
    double t = 0, r = 0;
    for (int i = 0; i < 3; i++) { double t1 = Time(cache.Attend, small ? 2001 : 15); double r1 = Time(() => bw.Read(), 7); if (t == 0 || t1 < t) t = t1; if (r == 0 || r1 < r) r = r1; }
    double gb = cache.BytesRead / t / 1e9, read = (256 << 20) / r / 1e9;
    Console.WriteLine($"{cache.Tier.Name} {shape}: {t * 1e3:f3} ms {t*1e9/(n*c*(small?1:8)):f1} ns/th {gb:f1} GB/s = {gb / read:p0} of {read:f1}");
}
