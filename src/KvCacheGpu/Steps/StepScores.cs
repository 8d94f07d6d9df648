using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Tells the policy of a step's queries and outputs, beside the masses that kernels keep.</summary>
internal sealed class StepScores(CacheState cache, PlanMemory? plans, StepMembers members)
{
    /// <summary>True if queries of the step are observed: it has more than one token of a sequence, and the policy wants to know.</summary>
    public bool IsPrefill { get; private set; }

    /// <summary>Begins a step. One of as many tokens as are observed leaves nothing of the window that was observed before.</summary>
    public void Begin(ReadOnlySpan<int> tokensPerSequence)
    {
        IsPrefill = false;
        for (int i = 0; i < tokensPerSequence.Length && cache.Needs.Has(KvStatistics.WindowMass); i++)
        {
            IsPrefill |= tokensPerSequence[i] > 1;
            if (tokensPerSequence[i] >= cache.Options.ObservedQueries)
            {
                Rewrite(members.Sequences[i], repairs: false);
            }
        }
    }

    /// <summary>Sees the queries of a layer, and the output that they got.</summary>
    public void See(StepMemory memory, ReadOnlySpan<RaggedSequence> ragged, int layer, KvTensor queries, KvOutput output)
    {
        if (IsPrefill)
        {
            memory.Batch.Observe(layer, queries, cache.Options.ObservedQueries);
        }

        for (int i = 0; i < members.Count; i++)
        {
            members.Sequences[i].Scores?.See(layer, ragged[i], queries, output);
        }
    }

    /// <summary>Makes what was seen part of the sequences' scores.</summary>
    public void Join(bool isSample)
    {
        foreach (SequenceState sequence in members.Sequences)
        {
            sequence.Scores?.Join(isSample);
        }
    }

    /// <summary>Takes the marks of refused numbers out of the scores of the pages before them.</summary>
    public void Repair(bool isSample)
    {
        foreach (SequenceState sequence in members.Sequences)
        {
            if ((isSample || IsPrefill) && sequence.Scores is not null)
            {
                Rewrite(sequence, repairs: true);
            }
        }
    }

    private void Rewrite(SequenceState sequence, bool repairs)
    {
        int leaves = sequence.Table.Leaves;
        using (plans!.Gate.Enter())
        using (cache.DeviceGate.Enter())
        {
            if (repairs)
            {
                sequence.Scores!.Repair(leaves, plans.LeafScores);
            }
            else
            {
                sequence.Scores!.ClearWindow(leaves, plans.LeafScores);
            }
        }
    }
}
