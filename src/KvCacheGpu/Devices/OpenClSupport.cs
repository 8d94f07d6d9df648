namespace KvCacheGpu;

/// <summary>Which OpenCL devices run the portable kernels.</summary>
internal static class OpenClSupport
{
    /// <summary>The environment variable whose flags PoCL adds to every build.</summary>
    public const string PoclFlagsVariable = "POCL_EXTRA_BUILD_FLAGS";

    private const string Pocl = "Portable Computing Language";
    private const string WithoutOptimizer = "-cl-opt-disable";

    /// <summary>Why a device cannot run the kernels; empty where it can.</summary>
    /// <param name="hasGenericAddressSpace">True if it has the address space that ILGPU's code needs.</param>
    /// <param name="isGpu">True if it is a GPU.</param>
    /// <param name="computeUnits">Its compute units.</param>
    /// <param name="platform">Name of its platform.</param>
    /// <param name="poclFlags">What <see cref="PoclFlagsVariable"/> holds, or null.</param>
    public static string Refusal(bool hasGenericAddressSpace, bool isGpu, int computeUnits, string platform, string? poclFlags)
    {
        if (!hasGenericAddressSpace)
        {
            return "lacks OpenCL's generic address space";
        }

        // Seen with PoCL 6.0: optimized, the attention kernels end in a segmentation fault, which no host could catch.
        if (platform == Pocl && poclFlags?.Contains(WithoutOptimizer, StringComparison.Ordinal) != true)
        {
            return $"PoCL's optimizer breaks the attention kernels: set {PoclFlagsVariable}={WithoutOptimizer}";
        }

        // ILGPU 1.5.3 keeps the address of a group's local memory in a variable of the whole program. On a GPU that address is the same for all
        // groups; on a CPU each thread has its own, so that groups running at once write over each other.
        return !isGpu && computeUnits > 1
            ? "groups share their memory wrongly where they run at once on a CPU: limit it to one compute unit (PoCL: POCL_CPU_MAX_CU_COUNT=1)"
            : string.Empty;
    }
}
