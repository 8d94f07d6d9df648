using ILGPU;

namespace KvCacheGpu.Tests;

/// <content>Sequences and their steps.</content>
internal static partial class PublicCalls
{
    private static readonly KvGeometry G = SharedObjects.G;
    private static readonly int[] FirstAndSecond = [SharedObjects.FirstId, SharedObjects.SecondId];

    private static IEnumerable<PublicCall> OfSequence() =>
    [
        new("KvSequence.get_Cache()", x => Assert.Same(x.Cache, x.First.Cache)),
        new("KvSequence.get_Id()", x => Assert.True(x.First.Id > 0)),
        new("KvSequence.get_Options()", x => Assert.Equal(SharedObjects.North, x.First.Options.Tenant)),
        new("KvSequence.get_Length()", x => Assert.InRange(x.First.Length, 0, 64), Gone),
        new("KvSequence.get_TokenIds()", x => Assert.All(x.First.TokenIds.ToArray(), id => Assert.InRange(id, SharedObjects.FirstId, SharedObjects.FirstId + 99)), Gone),
        new("KvSequence.get_Name()", x => _ = x.First.Name),
        new("KvSequence.set_Name(String)", x => x.First.Name = x.NewName()),
        new("KvSequence.get_PositionRuns()", x => Assert.Empty(x.First.PositionRuns!)),
        new("KvSequence.set_PositionRuns(IReadOnlyList)", x => x.First.PositionRuns = []),
        new("KvSequence.get_Metadata()", x => Assert.True(x.First.Metadata.Count < 2)),
        new("KvSequence.set_Metadata(IReadOnlyDictionary)", x => x.First.Metadata = new Dictionary<string, string> { ["turn"] = x.NewName() }),
        new("KvSequence.get_EvictedTokens()", x => Assert.InRange(x.First.EvictedTokens, 0, 64), Gone, InUse),
        new("KvSequence.get_AllocatedBytes()", x => Assert.True(x.First.AllocatedBytes >= 0), Gone, InUse),
        new("KvSequence.CanAppend(Int32)", x => _ = x.First.CanAppend(2), Gone, InUse),
        new("KvSequence.Begin(ReadOnlySpan, KvStream)", x => Complete(x.First.Begin([SharedObjects.FirstId, SharedObjects.FirstId]), [SharedObjects.FirstId, SharedObjects.FirstId]), Gone, InUse, NoRoom),
        new("KvSequence.TryBegin(ReadOnlySpan, KvStep, KvStream)", x =>
        {
            if (x.First.TryBegin([SharedObjects.FirstId], out KvStep step))
            {
                Complete(step, [SharedObjects.FirstId]);
            }
        }, Gone, InUse),
        new("KvSequence.TryBegin(ReadOnlySpan, KvStep, Nullable, KvStream)", x =>
        {
            if (x.First.TryBegin([SharedObjects.FirstId], out KvStep step, out KvShortage? shortage))
            {
                Complete(step, [SharedObjects.FirstId]);
            }

            Assert.Equal(step == default, shortage is not null);
        }, Gone, InUse),
        new("KvSequence.Fork()", x =>
        {
            using KvSequence fork = x.First.Fork();
            x.CheckOf(fork, SharedObjects.FirstId);
            fork.Feed(SharedObjects.FirstId + 77);
            x.CheckOf(fork, SharedObjects.FirstId);
        }, Gone, InUse, NoRoom),
        new("KvSequence.Truncate(Int32)", x => _ = x.First.Truncate(Math.Max(5, x.First.Length - 1)), Gone, InUse, NoSuch),
        new("KvSequence.Reuse(ReadOnlySpan)", x => _ = x.Empty.Reuse(Prompt), Gone, InUse, OutOfOrder, NoRoom),
        new("KvSequence.Pin(Int32, Int32)", x => x.First.Pin(2, 3), Gone, InUse, NoSuch),
        new("KvSequence.Unpin(Int32, Int32)", x => x.First.Unpin(2, 3), Gone, InUse, NoSuch),
        new("KvSequence.MarkSegment()", x => x.First.MarkSegment(), Gone, InUse),
        new("KvSequence.Demote(Int32, Int32, Int32, KvFormats)", x => _ = x.First.Demote(0, 1, 1, new KvFormats(PageFormat.I8, PageFormat.I8)), Gone, InUse, NoRoom, NoSuch),
        new("KvSequenceReading.PageDigest(KvSequence, Int32, Int32, Int32, Span, Span)", x => _ = x.First.PageDigest(1, 0, 0, new float[8], new float[8]), Gone, InUse, NoSuch),
        new("KvSequence.ResidentTokens(Int32, Int32)", x => Assert.InRange(x.First.ResidentTokens(1, 1), 0, 64), Gone, InUse),
        new("KvSequenceReading.ResidentPositions(KvSequence, Int32, Int32, Span)", x => Assert.InRange(x.First.ResidentPositions(0, 0, new int[64]), 0, 64), Gone, InUse),
        new("KvSequenceReading.Materialize(KvSequence, Int32, Span, Span)", x => Assert.InRange(x.First.Materialize(0, new float[64 * 16], new float[64 * 16]), 0, 64), Gone, InUse, NotHere),
        new("KvSequenceReading.Materialize(KvSequence, Int32, Span, Span, Span)", x => Assert.InRange(x.First.Materialize(1, new int[64], new float[64 * 16], new float[64 * 16]), 0, 64), Gone, InUse, NotHere),
        new("KvSequenceReading.Materialize(KvSequence, Int32, Int32, Span, Span)", x => Assert.InRange(x.First.Materialize(0, 1, new float[64 * 8], new float[64 * 8]), 0, 64), Gone, InUse),
        new("KvSequenceReading.Materialize(KvSequence, Int32, Int32, Span, Span, Span)", x => Assert.InRange(x.First.Materialize(1, 0, new int[64], new float[64 * 8], new float[64 * 8]), 0, 64), Gone, InUse),
        new("KvSequenceReading.ReadLayer(KvSequence, Int32, KvOutput, KvOutput)", x => Assert.InRange(x.First.ReadLayer(1, new float[64 * 16], new float[64 * 16]), 0, 64), Gone, InUse, NotHere),
        new("KvSequenceReading.PageMass(KvSequence, Int32, Int32, Span)", x => Assert.InRange(x.First.PageMass(0, 2, new float[16]), 0, 16), Gone, InUse),
        new("KvSequenceReading.TokenMass(KvSequence, Int32, Int32, ReadOnlySpan, Span, Span)", x => Assert.InRange(x.First.TokenMass(0, 1, new float[8], new float[64], new int[64]), 0, 64), Gone, InUse),
        new("KvSequenceReading.TryRead(KvSequence, Int32, Int32, Span, Span)", x => _ = x.First.TryRead(0, 0, new float[16], new float[16]), Gone, InUse, NoSuch),
        new("KvSequencePages.PageCount(KvSequence)", x => Assert.InRange(x.First.PageCount(), 0, 16), Gone),
        new("KvSequencePages.ReadPages(KvSequence, Int32, Int32, Boolean)", x => Assert.InRange(x.First.ReadPages(1, 1, withMass: true).Count, 0, 16), Gone, InUse),
        new("KvSequence.Replace(Int32, ReadOnlySpan, ReadOnlySpan)", x => x.First.Replace(0, Whole(TokenContent.Keys, SharedObjects.FirstId), Whole(TokenContent.Values, SharedObjects.FirstId)), Gone, InUse, NoRoom, NoSuch, NotHere),
        new("KvSequence.Attend(Int32, KvTensor, KvOutput, Int32, Boolean)", AttendToFirst, Gone, InUse, NoRoom, NoSuch, NotHere),
        new("KvCacheReading.Attend(KvCache, ReadOnlySpan, Int32, KvTensor, KvOutput, ReadOnlySpan, Int32)", x =>
        {
            float[] output = new float[64];
            x.Cache.Attend([x.First, x.Second], 1, TokenContent.Queries(G, 1, [5, 6]), output);
            Assert.All(output, number => Assert.InRange(number, -2.1f, 2.1f));
        }, Gone, InUse, NoRoom, NoSuch, NotHere),
        new("KvSequence.Dispose()", x => x.First.Dispose()),
    ];

    private static IEnumerable<PublicCall> OfStep() =>
    [
        new("KvStep.get_Tokens()", x => Assert.Equal(2, x.OpenStep().Tokens), Gone),
        new("KvStep.get_Geometry()", x => Assert.Same(x.Cache.Geometry, x.OpenStep().Geometry), Gone),
        new("KvStep.get_Shape()", x => _ = x.OpenStep().Shape, Gone, InUse, NotHere),
        new("KvStep.BeginCapture(Boolean)", x => x.OpenStep().BeginCapture(), Gone, InUse, NotHere),
        new("KvStep.EndCapture(IntPtr)", x => x.OpenStep().EndCapture(), Gone, InUse, NotHere),
        new("KvStep.Replay(KvStepGraph)", x => x.OpenStep().Replay(new KvStepGraph(default, default, 1, destroy: null)), Gone, InUse, NotHere),
        new("KvStep.Append(Int32, KvTensor, KvTensor)", x => AppendNext(x.OpenStep()), Gone, InUse, OutOfOrder),
        new("KvStep.Attend(Int32, KvTensor, KvOutput, Int32)", AttendOnStep, Gone, InUse, OutOfOrder, NoSuch, NotHere),
        new("KvStep.ReadLayer(Int32, Int32, KvOutput, KvOutput)", x => Assert.InRange(x.OpenStep().ReadLayer(0, 0, new float[64 * 16], default), 0, 64), Gone, InUse, OutOfOrder, NotHere),
        new("KvStep.Commit()", x =>
        {
            KvStep step = x.OpenStep();
            AppendNext(step);
            step.Commit();
        }, Gone, InUse, OutOfOrder),
        new("KvStep.EnqueueCommit()", x =>
        {
            KvStep step = x.OpenStep();
            AppendNext(step);
            step.EnqueueCommit();
        }, Gone, InUse, OutOfOrder),
        new("KvStep.Dispose()", x => x.OpenStep().Dispose()),
        new("KvStep.Equals(KvStep)", x => Assert.False(x.OpenStep().Equals(default))),
        new("KvStep.Equals(Object)", x => Assert.False(x.OpenStep().Equals(x))),
        new("KvStep.GetHashCode()", x => _ = x.OpenStep().GetHashCode()),
        new("KvStep.op_Equality(KvStep, KvStep)", x => Assert.False(x.OpenStep() == default)),
        new("KvStep.op_Inequality(KvStep, KvStep)", x => Assert.True(x.OpenStep() != default)),
    ];

    // Nobody else has the step; another thread may end it by disposing one of its sequences, or the cache.
    private static void Complete(KvStep step, int[] ids)
    {
        using (step)
        {
            TestCaches.AppendAll(step, G, ids);
            step.Attend(1, TokenContent.Queries(G, 1, ids), new float[ids.Length * 32]);
            step.Commit();
        }
    }

    private static void AppendNext(KvStep step)
    {
        int[] ids = [SharedObjects.ThirdId, SharedObjects.ThirdId];
        for (int layer = 0; layer < G.Layers; layer++)
        {
            try
            {
                step.Append(layer, TokenContent.Keys(G, layer, ids), TokenContent.Values(G, layer, ids));
            }
            catch (KvStepOrderException) when (layer < G.Layers - 1)
            {
                // Another call has appended it.
            }
        }
    }

    private static void AttendToFirst(SharedObjects x)
    {
        float[] output = new float[32];
        x.First.Attend(1, TokenContent.Queries(G, 1, [5]), output, counts: true);
        Assert.All(output, number => Assert.InRange(number, -2.1f, 2.1f));
        x.First.Attend(0, TokenContent.Queries(G, 0, [9]), default(ArrayView<float>));
    }

    private static void AttendOnStep(SharedObjects x)
    {
        x.OpenStep().Attend(0, TokenContent.Queries(G, 0, [1, 2]), KvOutput.FromHost(new float[64], new float[8]), 3);
        x.OpenStep().Attend(0, TokenContent.Queries(G, 0, [1, 2]), default(ArrayView<float>));
    }

    private delegate float[] OfLayer(KvGeometry geometry, int layer, ReadOnlySpan<int> ids);

    private static float[] Whole(OfLayer content, int id) => [.. Enumerable.Range(0, G.Layers).SelectMany(layer => content(G, layer, [id]))];
}
