using System.Runtime.Intrinsics;

namespace KvCacheGpu.Kernels;

/// <summary>Attention work whatever the vectors.</summary>
internal abstract unsafe class SimdAttendWork : ParallelWork
{
    public int Layer { get; private set; }

    public HostTensor Queries { get; private set; }

    public float* Output { get; private set; }

    public float* LogSumExp { get; private set; }

    /// <summary>Positions that a query sees at most, its own the last.</summary>
    public int Window { get; private set; }

    /// <summary>Tokens of each sequence to observe; 0 where the work is attention.</summary>
    public int Observed { get; private set; }

    public void Set(int layer, HostTensor queries, float* output, float* logSumExp, int window)
    {
        (Layer, Queries, Window, Observed) = (layer, queries, window == 0 ? int.MaxValue : window, 0);
        Output = output;
        LogSumExp = logSumExp;
    }

    /// <summary>Looks at the layer that was attended to last once more.</summary>
    public void SetObserved(HostTensor queries, int last) => (Queries, Observed) = (queries, last);
}

/// <summary>Append work whatever the vectors.</summary>
internal abstract class SimdAppendWork : ParallelWork
{
    public int Layer { get; set; }

    public HostTensor Keys { get; set; }

    public HostTensor Values { get; set; }
}

/// <summary>Scoring work whatever the vectors.</summary>
internal abstract class SimdScoreWork : ParallelWork
{
    public float Decay { get; set; }

    public int Step { get; set; }
}

/// <summary>Transcoding work whatever the vectors.</summary>
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

    /// <summary>Decodes tokens to vectors in the plain basis, <paramref name="stride"/> floats apart.</summary>
    public abstract void Decode(PagePart part, VectorPlan plan, int token, int tokens, float* vectors, long stride);
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
