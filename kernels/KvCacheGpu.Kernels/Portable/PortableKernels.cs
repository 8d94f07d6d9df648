using System.Reflection;
using System.Runtime.CompilerServices;
using ILGPU;

// ILGPU's CPU backend calls kernels from an assembly that it emits.
[assembly: InternalsVisibleTo(Context.RuntimeAssemblyName)]

namespace KvCacheGpu.Kernels;

/// <summary>The portable kernels by name, each closed over its formats: what tiers load and what offline tools compile.</summary>
internal static class PortableKernels
{
    private static readonly PageFormat[] _formats = Enum.GetValues<PageFormat>();

    /// <summary>Every kernel that any tier can ask for.</summary>
    public static IEnumerable<(string Name, MethodInfo Method)> All()
    {
        yield return ("scatter", Scatter);
        yield return ("widen", Widen);
        yield return ("rotate-queries", RotateQueries);
        yield return ("copy", Copy);
        yield return ("merge", Merge);
        foreach (PageFormat key in _formats)
        {
            yield return ($"materialize-{key}", Materialize(key));
            foreach (PageFormat value in _formats)
            {
                yield return ($"attend1-{key}-{value}", Attend(key, value, 1));
                yield return ($"attend4-{key}-{value}", Attend(key, value, 4));
                if (key != value)
                {
                    yield return ($"transcode-{key}-{value}", Transcode(key, value));
                }

                if (key.IsFullPrecision() && value.IsFullPrecision())
                {
                    yield return ($"append-{key}-{value}", Append(key, value));
                }
            }
        }
    }

    public static MethodInfo Scatter => Of(typeof(InputKernels), nameof(InputKernels.Scatter));

    public static MethodInfo Widen => Of(typeof(InputKernels), nameof(InputKernels.Widen));

    public static MethodInfo RotateQueries => Of(typeof(InputKernels), nameof(InputKernels.RotateQueries));

    public static MethodInfo Copy => Of(typeof(TranscodeKernels), nameof(TranscodeKernels.Copy));

    public static MethodInfo Merge => Of(typeof(MergeKernel), nameof(MergeKernel.Merge));

    public static MethodInfo Append(PageFormat key, PageFormat value) =>
        Of(typeof(AppendKernel), nameof(AppendKernel.Append)).MakeGenericMethod(Codec(key), Codec(value));

    public static MethodInfo Attend(PageFormat key, PageFormat value, int rows) =>
        Of(typeof(AttendKernel), nameof(AttendKernel.Split)).MakeGenericMethod(
            Codec(key), Codec(value), rows == 1 ? typeof(OneRow) : typeof(FourRows));

    public static MethodInfo Transcode(PageFormat source, PageFormat target) =>
        Of(typeof(TranscodeKernels), nameof(TranscodeKernels.Transcode)).MakeGenericMethod(Codec(source), Codec(target));

    public static MethodInfo Materialize(PageFormat format) =>
        Of(typeof(TranscodeKernels), nameof(TranscodeKernels.Materialize)).MakeGenericMethod(Codec(format));

    private static MethodInfo Of(Type type, string name) =>
        type.GetMethod(name, BindingFlags.Static | BindingFlags.Public)!;

    private static Type Codec(PageFormat format) => format switch
    {
        PageFormat.F32 => typeof(F32Codec),
        PageFormat.F16 => typeof(F16Codec),
        PageFormat.BF16 => typeof(BF16Codec),
        PageFormat.I8 => typeof(I8Codec),
        _ => throw new ArgumentOutOfRangeException(nameof(format), format, "unknown page format"),
    };
}
