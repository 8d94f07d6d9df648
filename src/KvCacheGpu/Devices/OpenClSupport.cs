namespace KvCacheGpu;

/// <summary>Which OpenCL devices run the portable kernels.</summary>
internal static class OpenClSupport
{
    /// <summary>The environment variable whose flags PoCL adds to every build.</summary>
    public const string PoclFlagsVariable = "POCL_EXTRA_BUILD_FLAGS";

    private const string Pocl = "Portable Computing Language";
    private const string WithoutOptimizer = "-cl-opt-disable";

    /// <summary>Why a device cannot run the kernels; empty where it can.</summary>
    /// <param name="hasGenericAddressSpace">Whether it has what ILGPU's code needs.</param>
    /// <param name="platform">Name of its platform.</param>
    /// <param name="poclFlags">What <see cref="PoclFlagsVariable"/> holds, or null.</param>
    public static string Refusal(bool hasGenericAddressSpace, string platform, string? poclFlags)
    {
        if (!hasGenericAddressSpace)
        {
            return "lacks OpenCL's generic address space";
        }

        // Seen with PoCL 6.0: optimized, the attention kernels end in a segmentation fault, which no host could catch.
        bool isBroken = platform == Pocl && poclFlags?.Contains(WithoutOptimizer, StringComparison.Ordinal) != true;
        return isBroken ? $"PoCL's optimizer breaks the attention kernels: set {PoclFlagsVariable}={WithoutOptimizer}" : string.Empty;
    }
}
