using System.Buffers;

namespace KvCacheGpu;

/// <summary>A sequence whose tokens are found by a position that the host chose.</summary>
internal sealed class EngineSession : IDisposable
{
    private readonly KvGeometry _geometry;
    private readonly Dictionary<int, int> _indexOf = [];
    private readonly List<int> _positions = [];

    public EngineSession(KvSequence sequence, string? tenant)
    {
        (Sequence, Tenant, _geometry) = (sequence, tenant, sequence.Cache.Geometry);
        Tokens = sequence.Length;
        foreach (int position in SessionPositions.Of(sequence))
        {
            Add(position);
        }
    }

    public KvSequence Sequence { get; }

    /// <summary>Its tenant, whose quota it counts in; null if there are no tenants.</summary>
    public string? Tenant { get; }

    /// <summary>Tokens that count in the quota: those that are there, and those that a call under way appends. The table's gate is held.</summary>
    public long Tokens { get; set; }

    /// <summary>True if it was made for a call that has not put anything yet; if that call is refused, the session is given up.</summary>
    public bool IsTentative { get; set; }

    /// <summary>Held around each call.</summary>
    public Lock Gate { get; } = new();

    /// <summary>The position after the largest so far.</summary>
    public int NextPosition { get; private set; }

    /// <summary>True if it was cleared, perhaps while a call waited for it.</summary>
    public bool IsDisposed { get; private set; }

    public bool Contains(int position) => _indexOf.ContainsKey(position);

    /// <summary>Reads a token: <c>[layers][KV heads][width]</c>.</summary>
    public bool TryRead(int position, Span<float> keys, Span<float> values)
    {
        if (!_indexOf.TryGetValue(position, out int index))
        {
            return false;
        }

        for (int layer = 0; layer < _geometry.Layers; layer++)
        {
            if (!Sequence.TryRead(layer, index, OfLayer(keys, layer), OfLayer(values, layer)))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Appends new tokens, attends if there are queries, and commits.</summary>
    /// <param name="positions">Their positions, none of them taken.</param>
    /// <param name="keys"><c>[layers][tokens][KV heads][key width]</c>.</param>
    /// <param name="values"><c>[layers][tokens][KV heads][value width]</c>.</param>
    /// <param name="queries"><c>[layers][tokens][query heads][key width]</c>, or empty.</param>
    /// <param name="output">Receives <c>[layers][tokens][query heads][value width]</c>.</param>
    public void Append(ReadOnlySpan<int> positions, ReadOnlySpan<float> keys, ReadOnlySpan<float> values, ReadOnlySpan<float> queries, Span<float> output)
    {
        // A position is not a token id: the engine is never told ids.
        int[] ids = ArrayPool<int>.Shared.Rent(positions.Length);
        ids.AsSpan().Fill(-1);
        try
        {
            using KvStep step = Sequence.Begin(ids.AsSpan(0, positions.Length));
            for (int layer = 0; layer < _geometry.Layers; layer++)
            {
                step.Append(layer, OfLayer(keys, layer), OfLayer(values, layer));
                if (!queries.IsEmpty)
                {
                    step.Attend(layer, OfLayer(queries, layer), OfLayer(output, layer));
                }
            }

            step.Commit();
        }
        finally
        {
            ArrayPool<int>.Shared.Return(ids);

            // A policy that throws does so after the tokens were appended.
            foreach (int position in positions[..(Sequence.Length - _positions.Count)])
            {
                IsTentative = false;
                Add(position);
            }
        }
    }

    /// <summary>Attends to a layer from the last token's place, of <c>[layers][query heads][width]</c>.</summary>
    public void Attend(int layer, ReadOnlySpan<float> queries, Span<float> output) =>
        Sequence.Attend(layer, OfLayer(queries, layer), OfLayer(output, layer), counts: true);

    /// <summary>Puts a token in the place of another.</summary>
    public void Replace(int position, ReadOnlySpan<float> keys, ReadOnlySpan<float> values) => Sequence.Replace(_indexOf[position], keys, values);

    /// <summary>Notes the positions in the sequence, for a snapshot to keep.</summary>
    public void NotePositions() => Sequence.PositionRuns = SessionPositions.RunsOf(_positions);

    public void Dispose()
    {
        IsDisposed = true;
        Sequence.Dispose();
    }

    private void Add(int position)
    {
        _indexOf[position] = _positions.Count;
        _positions.Add(position);
        NextPosition = Math.Max(NextPosition, position == int.MaxValue ? position : position + 1);
    }

    private ReadOnlySpan<float> OfLayer(ReadOnlySpan<float> all, int layer)
    {
        int length = all.Length / _geometry.Layers;
        return all.Slice(layer * length, length);
    }

    private Span<float> OfLayer(Span<float> all, int layer)
    {
        int length = all.Length / _geometry.Layers;
        return all.Slice(layer * length, length);
    }
}
