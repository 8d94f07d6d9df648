using System.Diagnostics.CodeAnalysis;
using System.Reflection;
using System.Runtime.CompilerServices;
using ILGPU;

// ILGPU's CPU backend calls kernels from an assembly that it emits.
[assembly: InternalsVisibleTo(Context.RuntimeAssemblyName)]

namespace KvCacheGpu.Kernels;

/// <summary>The portable kernels by name, each closed over its formats: tiers load them, offline tools compile them.</summary>
[UnconditionalSuppressMessage("Trimming", "IL2060", Justification = ForDevices)]
[UnconditionalSuppressMessage("Trimming", "IL2076", Justification = ForDevices)]
[UnconditionalSuppressMessage("AOT", "IL3050", Justification = ForDevices)]
internal static class PortableKernels
{
    /// <summary>Why kernels may be looked up by reflection in a program that is trimmed or compiled ahead of time.</summary>
    internal const string ForDevices = "Kernels are compiled at run time for a device, which a program that may not make code has none of (KvDevice.List says so); the types that close them are named here.";

    private static readonly PageFormat[] _formats = Enum.GetValues<PageFormat>();

    /// <summary>Every kernel that any tier can ask for.</summary>
    public static IEnumerable<(string Name, MethodInfo Method)> All()
    {
        yield return ("scatter", Scatter);
        yield return ("rotate-queries", RotateQueries);
        yield return ("sum-queries", SumQueries);
        yield return ("copy", Copy);
        yield return ("transfer-pages", TransferPages);
        yield return ("make-sketches", MakeSketches);
        yield return ("score-sketches", ScoreSketches);
        yield return ("merge", Merge);
        yield return ("score", Score);
        foreach (PageFormat source in _formats)
        {
            yield return ($"materialize-{source}", Materialize(source));
            yield return ($"square-{source}", Square(source));
            if (source.IsForKeys())
            {
                yield return ($"observe-{source}", Observe(source, isCapped: false));
                yield return ($"observe-capped-{source}", Observe(source, isCapped: true));
            }

            if (source.IsFullPrecision())
            {
                yield return ($"append-{source}-{source}", Append(source, source));
            }

            if (PageMoves.HasDigestOfItsOwn(source))
            {
                yield return ($"digest-{source}", Digest(source));
            }

            foreach (PageFormat target in _formats)
            {
                if (PageFormats.IsPair(source, target))
                {
                    yield return ($"attend1-{source}-{target}", Attend(source, target, 1));
                    yield return ($"attend4-{source}-{target}", Attend(source, target, 4));
                }

                if (PageMoves.IsTranscoded(source, target))
                {
                    yield return ($"transcode-{source}-{target}", Transcode(source, target));
                }

                if (PageMoves.IsEncodedByPage(source, target))
                {
                    yield return ($"keys-{source}-{target}", EncodeKeys(source, target));
                }
            }
        }
    }

    public static MethodInfo Scatter => Of(typeof(InputKernels), nameof(InputKernels.Scatter));

    public static MethodInfo RotateQueries => Of(typeof(InputKernels), nameof(InputKernels.RotateQueries));

    public static MethodInfo SumQueries => Of(typeof(InputKernels), nameof(InputKernels.SumQueries));

    public static MethodInfo Copy => Of(typeof(TranscodeKernels), nameof(TranscodeKernels.Copy));

    public static MethodInfo TransferPages => Of(typeof(TransferKernels), nameof(TransferKernels.Copy));

    public static MethodInfo MakeSketches => Of(typeof(SketchKernels), nameof(SketchKernels.Make));

    public static MethodInfo ScoreSketches => Of(typeof(SketchKernels), nameof(SketchKernels.Score));

    public static MethodInfo Merge => Of(typeof(MergeKernel), nameof(MergeKernel.Merge));

    public static MethodInfo Score => Of(typeof(ScoreKernel), nameof(ScoreKernel.Score));

    public static MethodInfo Append(PageFormat key, PageFormat value) =>
        Of(typeof(AppendKernel), nameof(AppendKernel.Append)).MakeGenericMethod(Codec(key), Codec(value));

    public static MethodInfo Attend(PageFormat key, PageFormat value, int queries) =>
        Of(typeof(AttendKernel), nameof(AttendKernel.Split)).MakeGenericMethod(
            Codec(key), Codec(value), queries == 1 ? typeof(OneQuery) : typeof(FourQueries));

    public static MethodInfo Observe(PageFormat key, bool isCapped) =>
        Of(typeof(ObserveKernel), nameof(ObserveKernel.Observe)).MakeGenericMethod(Codec(key), isCapped ? typeof(SoftLogitCap) : typeof(NoLogitCap));

    public static MethodInfo Square(PageFormat format) =>
        Of(typeof(SquareKernel), nameof(SquareKernel.Square)).MakeGenericMethod(Codec(format));

    public static MethodInfo Transcode(PageFormat source, PageFormat target) =>
        Of(typeof(TranscodeKernels), nameof(TranscodeKernels.Transcode)).MakeGenericMethod(Codec(source), Codec(target));

    public static MethodInfo EncodeKeys(PageFormat source, PageFormat target) =>
        Of(typeof(KeyKernels), nameof(KeyKernels.Encode)).MakeGenericMethod(Codec(source), Codec(target));

    public static MethodInfo Digest(PageFormat format) =>
        Of(typeof(KeyKernels), nameof(KeyKernels.Digest)).MakeGenericMethod(Codec(format));

    public static MethodInfo Materialize(PageFormat format) =>
        Of(typeof(TranscodeKernels), nameof(TranscodeKernels.Materialize)).MakeGenericMethod(Codec(format));

    private static MethodInfo Of([DynamicallyAccessedMembers(DynamicallyAccessedMemberTypes.PublicMethods)] Type type, string name) =>
        type.GetMethod(name, BindingFlags.Static | BindingFlags.Public)!;

    /// <summary>The codec of a format.</summary>
    public static Type Codec(PageFormat format) => format switch
    {
        PageFormat.F32 => typeof(F32Codec),
        PageFormat.F16 => typeof(F16Codec),
        PageFormat.BF16 => typeof(BF16Codec),
        PageFormat.I8 => typeof(I8Codec),
        PageFormat.T4 => typeof(T4Codec),
        PageFormat.T3 => typeof(ThreeBitCodec<ByGain>),
        PageFormat.T2 => typeof(TwoBitCodec<ByGain>),
        PageFormat.V4 => typeof(V4Codec),
        PageFormat.V3 => typeof(ThreeBitCodec<ByVector>),
        PageFormat.V2 => typeof(TwoBitCodec<ByVector>),
        PageFormat.FP8 => typeof(Fp8Codec),
        PageFormat.Q8 => typeof(Q8Codec),
        PageFormat.Q4 => typeof(Q4Codec),
        _ => throw new ArgumentOutOfRangeException(nameof(format), format, "unknown page format"),
    };
}
