using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;
using ILGPU.Runtime.Cuda;
using KvCacheGpu;
using KvCacheGpu.Samples;

// A host with its own ILGPU context, accelerator, stream and kernels embeds the cache: keys, values, queries and outputs stay on the device.
// Usage: IlgpuHost [--device cuda|ilgpu-cpu]
string device = args is ["--device", string given] ? given : "ilgpu-cpu";
if (device is not ("cuda" or "ilgpu-cpu"))
{
    Console.Error.WriteLine("usage: IlgpuHost [--device cuda|ilgpu-cpu]");
    return 2;
}

// On a server that has the drivers' runtime packages alone, ILGPU finds them after this call.
KvDevice.FindDrivers();
using Context context = Context.Create(builder =>
{
    if (device == "cuda")
    {
        builder.Cuda().Optimize(OptimizationLevel.O2);
    }
    else
    {
        builder.CPU(new CPUDevice(2, 1, 2));
    }
});
using Accelerator accelerator = device == "cuda" ? context.CreateCudaAccelerator(0) : context.CreateCPUAccelerator(0);
using AcceleratorStream stream = accelerator.CreateStream();

using var model = new ToyModel(accelerator, stream);
using var cache = new KvCache(ToyModel.Geometry, new KvCacheOptions { MaxTokens = 256, KeyFormat = PageFormat.F32, ValueFormat = PageFormat.F32, FullPrecision = PageFormat.F32 }, accelerator);
using KvSequence sequence = cache.CreateSequence();

int[] prompt = [3, 14, 15, 92, 65, 35, 89, 79, 32, 38];
float[] result = model.Run(cache, sequence, prompt);
for (int step = 0; step < 6; step++)
{
    result = model.Run(cache, sequence, [step]);
}

float[] expected = PlainModel.Run([.. prompt, .. Enumerable.Range(0, 6)]);
double off = Math.Sqrt(result.Zip(expected, (a, b) => (double)(a - b) * (a - b)).Sum()) / Math.Sqrt(expected.Sum(x => (double)x * x));
bool isEqual = off < 1e-4;
Console.WriteLine($"{cache.Device.Id}: {sequence.Length} tokens through {ToyModel.Geometry.Layers} layers on the host's accelerator and stream");
Console.WriteLine(isEqual ? "The result equals that of a plain computation." : $"The result differs from that of a plain computation: relative error {off}.");
return isEqual ? 0 : 1;
