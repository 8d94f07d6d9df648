using System.Runtime.InteropServices;

namespace KvCacheGpu.Serving;

/// <summary>
/// The tokens of one step: one for each answer that goes on, then as much of the prompts as there is room for, the first admitted first, then guesses. Its lists are used again for each step.
/// </summary>
internal sealed class StepPlan(int stepTokens, int draftTokens)
{
    private readonly List<Lane> _lanes = [];
    private readonly List<KvSequence> _sequences = [];
    private readonly List<int> _counts = [];
    private readonly List<int> _drafts = [];
    private readonly List<int> _ids = [];
    private readonly List<int> _rows = [];
    private readonly int[] _draft = new int[draftTokens];

    /// <summary>The lanes, in the order of their tokens.</summary>
    public IReadOnlyList<Lane> Lanes => _lanes;

    /// <summary>Their sequences.</summary>
    public ReadOnlySpan<KvSequence> Sequences => CollectionsMarshal.AsSpan(_sequences);

    /// <summary>Tokens of each.</summary>
    public ReadOnlySpan<int> Counts => CollectionsMarshal.AsSpan(_counts);

    /// <summary>Guesses among the tokens of each, which come last.</summary>
    public ReadOnlySpan<int> Drafts => CollectionsMarshal.AsSpan(_drafts);

    /// <summary>Ids of the tokens.</summary>
    public ReadOnlySpan<int> Ids => CollectionsMarshal.AsSpan(_ids);

    /// <summary>Places of the tokens whose logits are needed.</summary>
    public ReadOnlySpan<int> Rows => CollectionsMarshal.AsSpan(_rows);

    /// <summary>Plans a step.</summary>
    /// <param name="running">Lanes that have pages, in the order of their admission.</param>
    /// <param name="guess">True to guess tokens ahead.</param>
    public void Fill(IReadOnlyList<Lane> running, bool guess)
    {
        Clear();
        int left = stepTokens;
        foreach (Lane lane in running.Where(lane => lane.Pending == 1).Concat(running.Where(lane => lane.Pending > 1)))
        {
            int count = Math.Min(lane.Pending, left);
            if (count == 0)
            {
                break;
            }

            Add(lane, count);
            left -= count;
        }

        for (int i = 0; guess && i < _lanes.Count && left > 0; i++)
        {
            // Not beyond the end of the answer: what is chosen after the last guess must fit too.
            Lane lane = _lanes[i];
            int most = lane.Pending == 1 ? Math.Min(Math.Min(draftTokens, left), lane.MostLeft - 1) : 0;
            _drafts[i] = most > 0 ? PromptLookup.Guess(lane.Tokens, _draft.AsSpan(0, most)) : 0;
            left -= _drafts[i];
        }

        Write();
    }

    private void Clear()
    {
        _lanes.Clear();
        _sequences.Clear();
        _counts.Clear();
        _drafts.Clear();
    }

    private void Add(Lane lane, int count)
    {
        _lanes.Add(lane);
        _sequences.Add(lane.Sequence!);
        _counts.Add(count);
        _drafts.Add(0);
    }

    private void Write()
    {
        _ids.Clear();
        _rows.Clear();
        for (int i = 0; i < _lanes.Count; i++)
        {
            Lane lane = _lanes[i];
            _ids.AddRange(CollectionsMarshal.AsSpan(lane.Tokens).Slice(lane.Computed, _counts[i]));
            bool isRead = lane.Pending == _counts[i];
            if (_drafts[i] > 0)
            {
                PromptLookup.Guess(lane.Tokens, _draft.AsSpan(0, _drafts[i]));
                _ids.AddRange(_draft.AsSpan(0, _drafts[i]));
                _counts[i] += _drafts[i];
            }

            for (int row = isRead ? _drafts[i] : -1; row >= 0; row--)
            {
                _rows.Add(_ids.Count - 1 - row);
            }
        }
    }
}
