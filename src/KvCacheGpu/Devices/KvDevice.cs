using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;
using ILGPU.Runtime.Cuda;
using ILGPU.Runtime.OpenCL;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>The devices of this machine, and the kernel tiers that run on them.</summary>
public static class KvDevice
{
    private const string Ids = "auto, cpu, cuda[:index], opencl[:index] or ilgpu-cpu";

    // ILGPU makes code while it runs. A program for ahead-of-time compilation cannot, and a file-based app is one by default.
    private const string NoDeviceCode = "this program may not make code at run time: build it with PublishAot=false";

    private const string NoVectors = "this program was compiled for processors without AVX2, and computes one element at a time: build it with IlcInstructionSet=x86-64-v3, or native";

    /// <summary>Every device found, usable or not: GPUs first, then the host's own. Never throws for a missing driver.</summary>
    public static IReadOnlyList<KvDeviceInfo> List()
    {
        long hostBytes = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
        if (!RuntimeFeature.IsDynamicCodeSupported)
        {
            return [OnHost(hostBytes), new KvDeviceInfo("ilgpu-cpu", KvDeviceKind.Emulator, "ILGPU's CPU accelerator", hostBytes, false, NoDeviceCode)];
        }

        Context context = DeviceLibraries.Context;
        return
        [
            .. context.Devices.OfType<CudaDevice>().Select(Describe),
            .. context.Devices.OfType<CLDevice>().Select(Describe),
            OnHost(hostBytes),
            Emulator(hostBytes),
        ];
    }

    /// <summary>The device that an id means here; "auto" takes CUDA, then an OpenCL GPU, then the host's SIMD.</summary>
    /// <param name="id">auto, cpu, cuda[:index], opencl[:index] or ilgpu-cpu; index 0 where none is given.</param>
    /// <exception cref="KvConfigurationException">E003: the id is none of these.</exception>
    /// <exception cref="KvUnsupportedException">E009: this machine has no such device, or it cannot run the kernels.</exception>
    public static KvDeviceInfo Resolve(string id)
    {
        ArgumentNullException.ThrowIfNull(id);
        return Choose(id == "cpu" ? [] : List(), id);
    }

    /// <summary>Reserves an arena on a device and makes its kernels ready. The tier owns what it runs on.</summary>
    /// <param name="device">A usable device.</param>
    /// <param name="shape">Geometry, formats and table sizes.</param>
    /// <param name="arenaBytes">Bytes of tables and page slots.</param>
    /// <param name="observer">Told of every allocation and release, or null.</param>
    /// <param name="hostThreads">Threads that compute on the host's own device, each with scratch of its own; 0, the default, takes all cores.</param>
    /// <exception cref="KvUnsupportedException">E009: the device is not usable, or gone.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: the device does not give the arena.</exception>
    public static KernelTier CreateTier(
        KvDeviceInfo device, KernelShape shape, long arenaBytes, AllocationObserver? observer = null, int hostThreads = 0)
    {
        ArgumentNullException.ThrowIfNull(device);
        ThrowIfNotUsable(device);
        if (device.Kind == KvDeviceKind.Cpu)
        {
            var tier = new SimdTier(shape, arenaBytes, SimdLevel.Auto, hostThreads, observer);
            SimdWarmUp.Run(shape, tier.Level);
            return tier;
        }

        (Accelerator accelerator, IDisposable owner) = Open(device);
        try
        {
            return CreateTier(accelerator, device, shape, arenaBytes, observer, owner);
        }
        catch
        {
            owner.Dispose();
            throw;
        }
    }

    /// <summary>The same on the device of an id.</summary>
    public static KernelTier CreateTier(string id, KernelShape shape, long arenaBytes, AllocationObserver? observer = null) =>
        CreateTier(Resolve(id), shape, arenaBytes, observer);

    /// <summary>
    /// Makes ILGPU find the drivers of CUDA and OpenCL where only their runtime packages are installed, as on most Linux servers: ILGPU 1.5.3 asks for "cuda" and
    /// "OpenCL", and lists no device if only libcuda.so.1 and libOpenCL.so.1 are there. Call it before the first ILGPU context of the process. This library does so itself.
    /// </summary>
    /// <remarks>Does nothing if the host has set a resolver for ILGPU's assembly, on WSL, and on other systems than Linux.</remarks>
    public static void FindDrivers() => DeviceLibraries.FindDrivers();

    /// <summary>Makes an accelerator of ILGPU in the primary context of a CUDA device, the one that torch and the CUDA runtime use.</summary>
    /// <param name="ordinal">Ordinal of the device: the number in "cuda:1".</param>
    /// <param name="context">The ILGPU context that it belongs to; null, the default, takes the library's own.</param>
    /// <returns>The accelerator; several caches and kernels of the host's own may work on it. Dispose it after them.</returns>
    /// <exception cref="ArgumentOutOfRangeException">The ordinal is negative.</exception>
    /// <exception cref="KvUnsupportedException">E009: no such CUDA device, or another ILGPU than 1.5.3.</exception>
    public static KvPrimaryAccelerator CreatePrimaryAccelerator(int ordinal, Context? context = null)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(ordinal);
        if (!RuntimeFeature.IsDynamicCodeSupported)
        {
            throw new KvUnsupportedException($"device cuda:{ordinal}", "a program that makes code at run time", NoDeviceCode);
        }

        context ??= DeviceLibraries.Context;
        CudaDevice device = context.Devices.OfType<CudaDevice>().FirstOrDefault(d => d.DeviceId == ordinal)
            ?? throw new KvUnsupportedException($"device cuda:{ordinal}", "a CUDA device that the ILGPU context lists", $"{context.Devices.OfType<CudaDevice>().Count()} CUDA devices");
        return KvPrimaryAccelerator.Create(device, context);
    }

    /// <summary>Describes the device of a host's accelerator.</summary>
    /// <exception cref="ObjectDisposedException">The accelerator was disposed.</exception>
    /// <exception cref="KvUnsupportedException">E009: it cannot run the kernels.</exception>
    internal static KvDeviceInfo Describe(Accelerator accelerator)
    {
        ArgumentNullException.ThrowIfNull(accelerator);
        ObjectDisposedException.ThrowIf(accelerator.IsDisposed, accelerator);
        KvDeviceInfo info = accelerator.Device switch
        {
            CudaDevice cuda => Describe(cuda, cuda.DeviceId),
            CLDevice openCl => Describe(openCl, accelerator.Context.Devices.OfType<CLDevice>().TakeWhile(d => d.DeviceId != openCl.DeviceId).Count()),
            CPUDevice => Emulator(accelerator.MemorySize is > 0 and < long.MaxValue ? accelerator.MemorySize : GC.GetGCMemoryInfo().TotalAvailableMemoryBytes),
            _ => new KvDeviceInfo(accelerator.AcceleratorType.ToString(), KvDeviceKind.Emulator, accelerator.Name, accelerator.MemorySize, false, "an accelerator of an unknown kind"),
        };
        ThrowIfNotUsable(info);
        return info;
    }

    /// <summary>Makes a tier on an accelerator, and tells its errors as the library does.</summary>
    internal static PortableTier CreateTier(
        Accelerator accelerator, KvDeviceInfo device, KernelShape shape, long arenaBytes, AllocationObserver? observer, IDisposable? owner = null)
    {
        try
        {
            PortableTier tier = CudaTier.Create(accelerator, shape, arenaBytes, groupSize: 0, observer);
            tier.Owned = owner;
            return tier;
        }
        catch (Exception e) when (IsOutOfMemory(e))
        {
            throw new KvOutOfMemoryException(
                new KvShortage($"the arena on {device.Id} ({Bytes(device.MemoryBytes)} in all)", KvResource.DeviceBytes, arenaBytes, 0), e);
        }
        catch (NotSupportedException e)
        {
            throw new KvUnsupportedException($"device {device.Id} ({device.Name})", "a compiler that keeps the order of loads and stores", e.Message, e);
        }
    }

    /// <summary>The accelerator of a device other than the host, for tiers that share one, and what to dispose after them.</summary>
    internal static (Accelerator Accelerator, IDisposable Owner) Open(KvDeviceInfo device)
    {
        ThrowIfNotUsable(device);
        Device found = Find(device);
        if (found is CudaDevice cuda)
        {
            KvPrimaryAccelerator primary = KvPrimaryAccelerator.Create(cuda, DeviceLibraries.Context);
            return (primary.Accelerator, primary);
        }

        Accelerator accelerator = found.CreateAccelerator(DeviceLibraries.Context);
        return (accelerator, accelerator);
    }

    /// <summary><see cref="Resolve"/> among given devices.</summary>
    internal static KvDeviceInfo Choose(IReadOnlyList<KvDeviceInfo> devices, string id)
    {
        if (id == "auto")
        {
            return devices.FirstOrDefault(d => d.Usable && d.Kind == KvDeviceKind.Cuda)
                ?? devices.FirstOrDefault(d => d.Usable && d.Kind == KvDeviceKind.OpenCl && d.IsGpu)
                ?? devices.First(d => d.Kind == KvDeviceKind.Cpu);
        }

        if (id == "cpu")
        {
            return devices.FirstOrDefault(d => d.Kind == KvDeviceKind.Cpu)
                ?? OnHost(GC.GetGCMemoryInfo().TotalAvailableMemoryBytes);
        }

        string full = id is "cuda" or "opencl" ? id + ":0" : id;
        if (full != "ilgpu-cpu" && !IsIndexed(full))
        {
            throw new KvConfigurationException("device", Ids, $"\"{id}\"");
        }

        KvDeviceInfo found = devices.FirstOrDefault(d => d.Id == full)
            ?? throw new KvUnsupportedException(
                $"device {id}", $"one of {string.Join(", ", devices.Where(d => d.Usable).Select(d => d.Id))}", RuntimeFeature.IsDynamicCodeSupported ? $"{full}, which is not here" : NoDeviceCode);
        ThrowIfNotUsable(found);
        return found;
    }

    private static KvDeviceInfo OnHost(long bytes) =>
        new("cpu", KvDeviceKind.Cpu, $"SIMD on {Environment.ProcessorCount} logical cores", bytes, true, IsCompiledWithoutVectors ? NoVectors : string.Empty);

    // A compiler at run time knows the processor; one ahead of time is told, or takes one that has no AVX.
    private static bool IsCompiledWithoutVectors =>
        !RuntimeFeature.IsDynamicCodeSupported && RuntimeInformation.ProcessArchitecture == Architecture.X64 && !Vector256.IsHardwareAccelerated;

    private static KvDeviceInfo Emulator(long bytes) => new("ilgpu-cpu", KvDeviceKind.Emulator, "ILGPU's CPU accelerator", bytes, true, "an emulator, for tests of the device code");

    private static bool IsIndexed(string id)
    {
        int colon = id.IndexOf(':', StringComparison.Ordinal);
        return colon > 0
            && id[..colon] is "cuda" or "opencl"
            && int.TryParse(id.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out _);
    }

    private static void ThrowIfNotUsable(KvDeviceInfo device)
    {
        if (!device.Usable)
        {
            throw new KvUnsupportedException($"device {device.Id} ({device.Name})", "a device that runs the kernels", device.Reason);
        }
    }

    private static KvDeviceInfo Describe(CudaDevice device, int index)
    {
        KvCudaInfo cuda = CudaFacts.Of(device);
        string refusal = CudaFacts.Refusal(device.Architecture.HasValue && device.InstructionSet.HasValue, cuda);
        return new KvDeviceInfo($"cuda:{index}", KvDeviceKind.Cuda, device.Name, device.MemorySize, refusal.Length == 0, refusal) { IsGpu = true, Cuda = cuda };
    }

    private static KvDeviceInfo Describe(CLDevice device, int index)
    {
        bool isGpu = (device.DeviceType & CLDeviceType.CL_DEVICE_TYPE_GPU) != 0;
        string refusal = OpenClSupport.Refusal(
            device.Capabilities.GenericAddressSpace,
            isGpu,
            device.NumMultiprocessors,
            device.PlatformName,
            Environment.GetEnvironmentVariable(OpenClSupport.PoclFlagsVariable));
        string note = isGpu ? string.Empty : "not a GPU: taken only when asked for";
        bool usable = refusal.Length == 0;
        return new KvDeviceInfo($"opencl:{index}", KvDeviceKind.OpenCl, device.Name, device.MemorySize, usable, usable ? note : refusal)
        {
            IsGpu = isGpu,
        };
    }

    private static Device Find(KvDeviceInfo info)
    {
        Context context = DeviceLibraries.Context;
        IEnumerable<Device> devices = info.Kind switch
        {
            KvDeviceKind.Cuda => context.Devices.OfType<CudaDevice>(),
            KvDeviceKind.OpenCl => context.Devices.OfType<CLDevice>(),
            _ => context.Devices.OfType<CPUDevice>(),
        };
        int index = info.Kind == KvDeviceKind.Emulator ? 0 : int.Parse(info.Id.AsSpan(info.Id.IndexOf(':', StringComparison.Ordinal) + 1), CultureInfo.InvariantCulture);
        return devices.ElementAtOrDefault(index)
            ?? throw new KvUnsupportedException($"device {info.Id}", "a device of this machine", "no such device");
    }

    private static bool IsOutOfMemory(Exception e) => e is OutOfMemoryException
        or CudaException { Error: nameof(CudaError.CUDA_ERROR_OUT_OF_MEMORY) }
        or CLException { Error: CLError.CL_MEM_OBJECT_ALLOCATION_FAILURE or CLError.CL_OUT_OF_RESOURCES or CLError.CL_INVALID_BUFFER_SIZE };

    private static string Bytes(long bytes) => $"{bytes.ToString(CultureInfo.InvariantCulture)} bytes";
}
