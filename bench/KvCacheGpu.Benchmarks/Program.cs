using System.Diagnostics;
using KvCacheGpu.Benchmarks;
using KvCacheGpu.Kernels;

int threads = args.Length > 0 ? int.Parse(args[0]) : 0;
using var pool = new WorkerPool(threads == 0 ? Environment.ProcessorCount : threads);
using var bw = new Bandwidth(pool);
double Time(Action a, int n) { a(); var ts = new List<double>(); for (int i = 0; i < n; i++) { long s = Stopwatch.GetTimestamp(); a(); ts.Add(Stopwatch.GetElapsedTime(s).TotalSeconds); } ts.Sort(); return ts[n / 2]; }
double read = bw.Read() / Time(() => bw.Read(), 9) / 1e9;
Console.WriteLine($"read {read:f1} GB/s copy {bw.Copy() / Time(() => bw.Copy(), 9) / 1e9:f1}");
foreach (var level in new[] { SimdLevel.Vector512 })
foreach (var f in new[] { PageFormat.F16, PageFormat.I8 })
foreach (var (n, c) in new[] { (1, 32768), (32, 1024), (1, 1024), (1,512) })
foreach (int gqa in new[] { 4 })
{
    var shape = new AttendShape(128, c <= 1024 && n == 1 ? 1 : 8, gqa, n, c, f);
    using var cache = new FilledCache(shape, (s, b) => new SimdTier(s, b, level, threads));
    double t = Time(cache.Attend, c <= 1024 && n==1? 2001:11);
    double gb = cache.BytesRead / t / 1e9;
    read = bw.Read() / Time(() => bw.Read(), 5) / 1e9;
    Console.WriteLine($"{cache.Tier.Name} {shape}: {t * 1e3:f3} ms {t*1e9/(n*c*(n==1&&c<=1024?1:8)):f1} ns/token-head {gb:f1} GB/s = {gb / read:p0} of {read:f1}");
}
