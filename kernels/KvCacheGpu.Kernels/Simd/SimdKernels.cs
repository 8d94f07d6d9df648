using System.Runtime.Intrinsics;

namespace KvCacheGpu.Kernels;

/// <summary>The layer that a batch attends to, and its queries: set by attention, used once more by a look back at it.</summary>
internal sealed class AttendCall
{
    public int Layer { get; set; }

    public HostTensor Queries { get; set; }

    /// <summary>Positions that a query sees at most, its own the last.</summary>
    public int Window { get; set; }
}

/// <summary>Attention work for vectors of any width.</summary>
internal abstract unsafe class SimdAttendWork : ParallelWork
{
    public HostOutput Output { get; private set; }

    public float* LogSumExp { get; private set; }

    public void Set(HostOutput output, float* logSumExp)
    {
        Output = output;
        LogSumExp = logSumExp;
    }
}

/// <summary>Observing work for vectors of any width.</summary>
internal abstract class SimdObserveWork : ParallelWork
{
    /// <summary>Tokens of each sequence that count, from its last back.</summary>
    public int Last { get; set; }
}

/// <summary>Append work for vectors of any width.</summary>
internal abstract class SimdAppendWork : ParallelWork
{
    public int Layer { get; set; }

    public HostTensor Keys { get; set; }

    public HostTensor Values { get; set; }
}

/// <summary>Scoring work for vectors of any width.</summary>
internal abstract class SimdScoreWork : ParallelWork
{
    public float Decay { get; set; }

    public int Step { get; set; }
}

/// <summary>Transcoding work for vectors of any width.</summary>
internal abstract unsafe class SimdTranscodeWork : ParallelWork
{
    protected PageMove* Moves { get; private set; }

    /// <summary>Set for each move whose target cannot hold the page; or null.</summary>
    protected bool* Kept { get; private set; }

    public void Run(WorkerPool pool, PageMove* moves, int count, bool* kept)
    {
        Moves = moves;
        Kept = kept;
        pool.Run(this, count);
    }

    /// <summary>Decodes a page's first tokens in the plain basis, to where the read says.</summary>
    public abstract void Decode(in PagePart part, VectorPlan plan, in PageRead read, HostOutput target);
}

/// <summary>Picks the kernels compiled for the tier's vectors.</summary>
internal static class SimdKernels
{
    public static SimdAttendWork CreateAttend(SimdTier tier, SimdBatch batch) => tier.Level switch
    {
        SimdLevel.Vector512 => new SimdAttend<Simd512, Vector512<float>, Vector512<int>>(tier, batch),
        SimdLevel.Vector256 => new SimdAttend<Simd256, Vector256<float>, Vector256<int>>(tier, batch),
        _ => new SimdAttend<SimdScalar, float, int>(tier, batch),
    };

    public static SimdObserveWork CreateObserve(SimdTier tier, SimdBatch batch) => tier.Level switch
    {
        SimdLevel.Vector512 => new SimdObserve<Simd512, Vector512<float>, Vector512<int>>(tier, batch),
        SimdLevel.Vector256 => new SimdObserve<Simd256, Vector256<float>, Vector256<int>>(tier, batch),
        _ => new SimdObserve<SimdScalar, float, int>(tier, batch),
    };

    public static SimdAppendWork CreateAppend(SimdTier tier, SimdBatch batch) => tier.Level switch
    {
        SimdLevel.Vector512 => new SimdAppend<Simd512, Vector512<float>, Vector512<int>>(tier, batch),
        SimdLevel.Vector256 => new SimdAppend<Simd256, Vector256<float>, Vector256<int>>(tier, batch),
        _ => new SimdAppend<SimdScalar, float, int>(tier, batch),
    };

    public static SimdScoreWork CreateScore(SimdTier tier, SimdBatch batch) => tier.Level switch
    {
        SimdLevel.Vector512 => new SimdScore<Simd512, Vector512<float>, Vector512<int>>(tier, batch),
        SimdLevel.Vector256 => new SimdScore<Simd256, Vector256<float>, Vector256<int>>(tier, batch),
        _ => new SimdScore<SimdScalar, float, int>(tier, batch),
    };

    public static SimdTranscodeWork CreateTranscode(SimdTier tier) => tier.Level switch
    {
        SimdLevel.Vector512 => new SimdTranscode<Simd512, Vector512<float>, Vector512<int>>(tier),
        SimdLevel.Vector256 => new SimdTranscode<Simd256, Vector256<float>, Vector256<int>>(tier),
        _ => new SimdTranscode<SimdScalar, float, int>(tier),
    };
}
