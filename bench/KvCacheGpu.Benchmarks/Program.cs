using BenchmarkDotNet.Running;
using KvCacheGpu.Benchmarks;

if (args is ["roofline", .. string[] options])
{
    return Roofline.Run(options);
}

BenchmarkSwitcher.FromAssembly(typeof(Program).Assembly).Run(args);
return 0;
