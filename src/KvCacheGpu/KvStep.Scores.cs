using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>What a step tells the policy beside the masses that kernels keep.</content>
public sealed partial class KvStep
{
    private bool _isPrefill;

    private bool NeedsWindow => _cache.Needs.Has(KvStatistics.WindowMass);

    // A step of as many tokens as are observed leaves nothing of what was observed before.
    private void BeginScores(ReadOnlySpan<int> tokensPerSequence)
    {
        _isPrefill = false;
        for (int i = 0; i < tokensPerSequence.Length && NeedsWindow; i++)
        {
            _isPrefill |= tokensPerSequence[i] > 1;
            if (tokensPerSequence[i] >= _cache.Settings.ObservedQueries)
            {
                SequenceScores scores = _sequences[i].Scores!;
                Rewrite(_sequences[i], scores.ClearWindow);
            }
        }
    }

    private void SeeAttention(StepMemory memory, int layer, KvTensor queries, ReadOnlySpan<float> output)
    {
        if (_isPrefill)
        {
            memory.Batch.Observe(layer, queries, _cache.Settings.ObservedQueries);
        }

        for (int i = 0; i < _sequences.Length; i++)
        {
            _sequences[i].Scores?.See(layer, _ragged[i], queries, output);
        }
    }

    // What was refused may have left its mark on the scores of the pages before it.
    private void RepairScores(bool isSample)
    {
        foreach (KvSequence sequence in _sequences)
        {
            if ((isSample || _isPrefill) && sequence.Scores is { } scores)
            {
                Rewrite(sequence, scores.Repair);
            }
        }
    }

    private void Rewrite(KvSequence sequence, Action<int, PlanMemory> rewrite)
    {
        PlanMemory memory = _cache.Eviction!.Memory;
        lock (memory.Gate)
        {
            lock (_cache.DeviceGate)
            {
                rewrite(_cache.Geometry.PagesFor(sequence.Length), memory);
            }
        }
    }
}
