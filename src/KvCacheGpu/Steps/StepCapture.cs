using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Captures the calls of a step in a graph, and replays a graph as if its calls were made. The caller is inside of the step.</summary>
internal static class StepCapture
{
    public static KvStepShape ShapeOf(in StepLease.Call call)
    {
        ThrowIfWithoutGraphs(call, "the shape of a step");
        return call.Memory.Batch.StepShape;
    }

    public static void Begin(in StepLease.Call call, bool byHost)
    {
        ThrowIfWithoutGraphs(call, "BeginCapture");
        ThrowIfUnderWay(call, "BeginCapture");
        if (call.Step.IsObserved)
        {
            throw new KvUnsupportedException($"BeginCapture under {call.Cache.Options.Policy!.GetType().Name}", "a step of one token for each sequence", "one of more, whose queries the policy looks at");
        }

        try
        {
            call.Memory.Batch.BeginCapture(call.Step.Appended, byHost);
        }
        catch (NotSupportedException e)
        {
            throw new KvUnsupportedException("BeginCapture", "a step that began on a stream of the host's", e.Message, e);
        }
        catch (StreamCaptureException e)
        {
            throw new KvStepOrderException("BeginCapture", e.Expected, e.Actual, e);
        }
    }

    public static KvStepGraph End(in StepLease.Call call, nint hostGraph)
    {
        ThrowIfWithoutGraphs(call, "EndCapture");
        KernelBatch batch = call.Memory.Batch;
        int appended = batch.CapturesFrom ?? call.Step.Appended;
        try
        {
            return batch.EndCapture(hostGraph);
        }
        catch (StreamCaptureException e)
        {
            throw new KvStepOrderException("EndCapture", e.Expected, e.Actual, e);
        }
        finally
        {
            // Nothing of it has run. A capture that goes on, since the call did not fit, keeps its layers.
            call.Step.Appended = batch.CapturesFrom is null ? appended : call.Step.Appended;
        }
    }

    public static void Replay(in StepLease.Call call, KvStepGraph graph)
    {
        ThrowIfWithoutGraphs(call, "Replay");
        ThrowIfUnderWay(call, "Replay");
        if (graph.FirstLayer != call.Step.Appended)
        {
            throw new KvStepOrderException("Replay", $"a graph that begins with layer {call.Step.Appended}", $"one that begins with layer {graph.FirstLayer}");
        }

        foreach (CapturedAttend attend in graph.Attended)
        {
            foreach (SequenceState sequence in call.Step.Members.Sequences)
            {
                AttentionRead.ThrowIfWindowOverMerged(sequence.Table, attend.Layer, attend.Window);
            }

            new StagedAttention(call.Cache, call.Step.Members.Sequences, [], attend.Layer).ThrowIfAway();
        }

        try
        {
            call.Memory.Batch.Replay(graph);
        }
        catch (StreamCaptureException e)
        {
            throw new KvStepOrderException("Replay", e.Expected, e.Actual, e);
        }

        call.Step.Appended = graph.EndLayer;
        foreach (CapturedAttend attend in graph.Attended)
        {
            call.Step.NoteAttended(attend.Layer, attend.Window);
        }
    }

    /// <exception cref="KvStepOrderException">E010: the step is being captured.</exception>
    public static void ThrowIfUnderWay(in StepLease.Call call, string what)
    {
        if (call.Memory.Batch.CapturesFrom is not null)
        {
            throw new KvStepOrderException(what, "EndCapture of the capture that is under way", $"{what} before it");
        }
    }

    /// <summary>The error that a host gets for an error of the kernels, or null if it is none of these.</summary>
    public static KvCacheException? Translate(Exception error, CacheState cache, string what) => error switch
    {
        NotSupportedException e => new KvUnsupportedException($"{what} on {cache.Tier.Name}", "memory that the device reads", e.Message, e),
        StreamCaptureException e => new KvStepOrderException(what, e.Expected, e.Actual, e),
        _ => null,
    };

    private static void ThrowIfWithoutGraphs(in StepLease.Call call, string what)
    {
        if (!call.Cache.Tier.HasGraphs)
        {
            throw new KvUnsupportedException($"{what} on {call.Cache.Tier.Name}", "a CUDA device", "one without graphs");
        }
    }
}
