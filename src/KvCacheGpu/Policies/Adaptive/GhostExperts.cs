namespace KvCacheGpu;

/// <summary>
/// The memory that the adaptive policy keeps of one sequence: how far it trusts each expert in each row, learned from ghosts (pages that an expert
/// would have dropped next, but which stayed), and the attention that each row has lost.
/// </summary>
/// <remarks>
/// Exponentiated gradient (Kivinen and Warmuth 1997) with a fixed share (Herbster and Warmuth 1998), so that an expert can come back. An
/// expert's loss is the part of the old pages' attention that its ghosts have received since, 0..1, which is known exactly because they stayed
/// resident; pages that were dropped since do not count. After T updates of rate eta and share s over N experts, the sum of the losses weighted by trust
/// exceeds that of any one expert by at most (ln N + T ln(1 / (1 - s))) / eta + eta T / 8, whatever the attention was. The bound concerns that loss, in one row.
/// </remarks>
internal sealed class GhostExperts
{
    private const ushort Candidate = 1 << 15;

    private readonly int _experts;
    private readonly float[] _weights;
    private readonly float[] _lost;
    private readonly int[] _rowStarts;
    private int[] _index = [];
    private float[] _mass = [];
    private ushort[] _ghosts = [];
    private long _time;

    public GhostExperts(int rows, int experts)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(experts, MostExperts);
        (_experts, _lost, _rowStarts, Old) = (experts, new float[rows], new int[rows + 1], new OldAttention(rows));
        _weights = new float[rows * experts];
        Array.Fill(_weights, 1f / experts);
    }

    /// <summary>The most experts: one for each bit of a ghost beside the candidate's bit.</summary>
    public static int MostExperts => 15;

    /// <summary>[rows][experts] trust in each expert; its sum over a row is 1.</summary>
    public ReadOnlySpan<float> Weights => _weights;

    /// <summary>[rows] share of attention that the dropped pages would receive, as expected when they were dropped.</summary>
    public Span<float> Lost => _lost;

    /// <summary>The attention that old pages of each row still get.</summary>
    public OldAttention Old { get; }

    private static long TimeOf(in KvPages pages) => pages.Samples > 0 ? pages.Samples : pages.Step;

    /// <summary>Judges the experts by the attention that their ghosts have received since they were named.</summary>
    public void Observe(in KvPages pages, float decay, float rate, float share)
    {
        long steps = TimeOf(pages) - _time;
        if (steps <= 0)
        {
            return;
        }

        Old.Observe(pages);
        float faded = MathF.Pow(decay, steps);
        Span<float> losses = stackalloc float[_experts];
        for (int row = 0; row < pages.Rows; row++)
        {
            float received = Received(pages, row, faded, losses, out float trend);
            _lost[row] *= Math.Min(1, trend);
            if (received > 0)
            {
                Reweigh(_weights.AsSpan(row * _experts, _experts), losses, rate / received, share);
            }
        }
    }

    /// <summary>Names the ghosts: of the pages that stay, those that each expert would drop next.</summary>
    /// <param name="pages">The pages.</param>
    /// <param name="opinions">The experts' orders.</param>
    /// <param name="plan">The plan that is about to be carried out.</param>
    /// <param name="part">Part of the pages that stay of a row that each expert names.</param>
    public void Haunt(in KvPages pages, in Opinions opinions, ReadOnlySpan<KvTransition> plan, float part)
    {
        Reserve(pages.Count);
        _time = TimeOf(pages);
        pages.RowStarts.CopyTo(_rowStarts);
        pages.PageIndex.CopyTo(_index);
        pages.Mass.CopyTo(_mass);
        _ghosts.AsSpan(0, pages.Count).Clear();
        for (int row = 0; row < pages.Rows; row++)
        {
            int stay = 0;
            foreach (ulong key in opinions.Of(0, row))
            {
                bool stays = plan[Order.Page(key)].Kind != KvTransitionKind.Drop;
                stay += stays ? 1 : 0;
                _ghosts[Order.Page(key)] = stays ? Candidate : (ushort)0;
            }

            for (int expert = 0; expert < _experts; expert++)
            {
                int left = (int)Math.Ceiling(stay * part);
                foreach (ulong key in opinions.Of(expert, row))
                {
                    ref ushort ghost = ref _ghosts[Order.Page(key)];
                    if (left > 0 && (ghost & Candidate) != 0)
                    {
                        ghost |= (ushort)(1 << expert);
                        left--;
                    }
                }
            }
        }
    }

    private float Received(in KvPages pages, int row, float faded, Span<float> losses, out float trend)
    {
        losses.Clear();
        float total = 0, before = 0, after = 0;
        int then = _rowStarts[row];
        for (int page = pages.RowStarts[row]; page < pages.RowStarts[row + 1]; page++)
        {
            while (then < _rowStarts[row + 1] && _index[then] < pages.PageIndex[page])
            {
                then++;
            }

            if (then == _rowStarts[row + 1] || _index[then] != pages.PageIndex[page] || _ghosts[then] == 0)
            {
                continue;
            }

            before += _mass[then];
            after += pages.Mass[page];
            float mass = pages.Mass[page] - (faded * _mass[then]);
            if (mass > 0)
            {
                total += mass;
                for (int expert = 0; expert < losses.Length; expert++)
                {
                    losses[expert] += (_ghosts[then] >> expert & 1) * mass;
                }
            }
        }

        // Old pages get less attention as newer tokens come. Dropped pages are assumed to have faded as much as the pages that stayed.
        trend = before > 0 ? after / before : 1;
        return total;
    }

    private static void Reweigh(Span<float> weights, ReadOnlySpan<float> losses, float rate, float share)
    {
        float least = float.PositiveInfinity;
        foreach (float loss in losses)
        {
            least = Math.Min(least, loss);
        }

        float sum = 0;
        for (int i = 0; i < weights.Length; i++)
        {
            weights[i] *= MathF.Exp(-rate * (losses[i] - least));
            sum += weights[i];
        }

        for (int i = 0; i < weights.Length; i++)
        {
            weights[i] = ((1 - share) * weights[i] / sum) + (share / weights.Length);
        }
    }

    // The only memory that a plan allocates: it doubles as the sequence grows.
    private void Reserve(int pages)
    {
        if (_index.Length < pages)
        {
            int room = Math.Max(pages, 2 * _index.Length);
            (_index, _mass, _ghosts) = (new int[room], new float[room], new ushort[room]);
        }
    }
}
