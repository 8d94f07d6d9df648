using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// A sequence whose tokens are found by a position that the host chose. The position is the token's id, so that it lives and is saved
/// with the sequence.
/// </summary>
internal sealed class EngineSession : IDisposable
{
    private readonly KvGeometry _geometry;
    private readonly Dictionary<int, int> _indexOf = [];
    private float[] _lastKeys = [];
    private float[] _lastValues = [];

    public EngineSession(KvSequence sequence, string? tenant)
    {
        (Sequence, Tenant, _geometry) = (sequence, tenant, sequence.Cache.Geometry);
        Reindex();
    }

    public KvSequence Sequence { get; }

    /// <summary>Who made it, and whose quota it counts in.</summary>
    public string? Tenant { get; }

    /// <summary>Tokens that a call under way appends.</summary>
    public int Pending { get; set; }

    /// <summary>Held around each call.</summary>
    public Lock Gate { get; } = new();

    /// <summary>The position after the largest so far.</summary>
    public int NextPosition { get; private set; }

    public bool Contains(int position) => _indexOf.ContainsKey(position);

    /// <summary>Reads a token: <c>[layers][KV heads][width]</c>.</summary>
    public bool TryRead(int position, Span<float> keys, Span<float> values) =>
        _indexOf.TryGetValue(position, out int index) && TryReadAt(index, keys, values);

    /// <summary>Appends new tokens, attends where there are queries, and commits.</summary>
    /// <param name="positions">Their positions, none of them taken.</param>
    /// <param name="keys"><c>[layers][tokens][KV heads][key width]</c>.</param>
    /// <param name="values"><c>[layers][tokens][KV heads][value width]</c>.</param>
    /// <param name="queries"><c>[layers][tokens][query heads][key width]</c>, or empty.</param>
    /// <param name="output">Receives <c>[layers][tokens][query heads][value width]</c>.</param>
    public void Append(ReadOnlySpan<int> positions, ReadOnlySpan<float> keys, ReadOnlySpan<float> values, ReadOnlySpan<float> queries, Span<float> output)
    {
        int first = Sequence.Length;
        using (KvStep step = Sequence.Begin(positions))
        {
            for (int layer = 0; layer < _geometry.Layers; layer++)
            {
                step.Append(layer, OfLayer(keys, layer), OfLayer(values, layer));
                if (!queries.IsEmpty)
                {
                    int length = output.Length / _geometry.Layers;
                    step.Attend(layer, OfLayer(queries, layer), output.Slice(layer * length, length));
                }
            }

            step.Commit();
        }

        for (int token = 0; token < positions.Length; token++)
        {
            _indexOf[positions[token]] = first + token;
            NextPosition = Math.Max(NextPosition, Next(positions[token]));
        }

        _lastKeys = LastOf(keys, positions.Length);
        _lastValues = LastOf(values, positions.Length);
    }

    /// <summary>Attends from the last token's place: it is taken off and appended again, of which an open page keeps no trace.</summary>
    public void Attend(ReadOnlySpan<float> queries, Span<float> output)
    {
        int last = Sequence.Length - 1;
        if (_lastKeys.Length == 0)
        {
            (_lastKeys, _lastValues) = (new float[KeyLength], new float[ValueLength]);
            _ = TryReadAt(last, _lastKeys, _lastValues);
        }

        int position = Sequence.TokenIds[last];
        Sequence.Truncate(last);
        try
        {
            Append([position], _lastKeys, _lastValues, queries, output);
        }
        catch (Exception) when (Sequence.Length == last)
        {
            Append([position], _lastKeys, _lastValues, [], []);
            throw;
        }
    }

    /// <summary>Puts a token in the place of one that is there: what came after it is appended anew.</summary>
    /// <exception cref="KvUnsupportedException">Some of that was dropped.</exception>
    public void Replace(int position, ReadOnlySpan<float> keys, ReadOnlySpan<float> values)
    {
        int index = _indexOf[position];
        int tokens = Sequence.Length - index;
        int[] positions = Sequence.TokenIds[index..].ToArray();
        var old = new (float[] Keys, float[] Values)[tokens];
        for (int token = 0; token < tokens; token++)
        {
            old[token] = (new float[KeyLength], new float[ValueLength]);
            if (!TryReadAt(index + token, old[token].Keys, old[token].Values))
            {
                throw new KvUnsupportedException($"Put at position {position} again", "it and what was put after it, still there", $"position {positions[token]} dropped");
            }
        }

        Sequence.Truncate(index);
        int done = 0;
        try
        {
            Append([position], keys, values, [], []);
            for (done = 1; done < tokens; done++)
            {
                Append([positions[done]], old[done].Keys, old[done].Values, [], []);
            }
        }
        catch
        {
            Sequence.Truncate(index);
            for (int token = 0; token < tokens; token++)
            {
                Append([positions[token]], old[token].Keys, old[token].Values, [], []);
            }

            throw;
        }
    }

    /// <summary>Whether it was cleared while a call waited for it.</summary>
    public bool IsDisposed { get; private set; }

    public void Dispose()
    {
        IsDisposed = true;
        Sequence.Dispose();
    }

    private static int Next(int position) => position == int.MaxValue ? position : position + 1;

    private int KeyLength => _geometry.Layers * _geometry.KvHeads * _geometry.KeyWidth;

    private int ValueLength => _geometry.Layers * _geometry.KvHeads * _geometry.ValueWidth;

    private bool TryReadAt(int index, Span<float> keys, Span<float> values)
    {
        int keyLength = KeyLength / _geometry.Layers;
        int valueLength = ValueLength / _geometry.Layers;
        for (int layer = 0; layer < _geometry.Layers; layer++)
        {
            if (!Sequence.TryRead(layer, index, keys.Slice(layer * keyLength, keyLength), values.Slice(layer * valueLength, valueLength)))
            {
                return false;
            }
        }

        return true;
    }

    private ReadOnlySpan<float> OfLayer(ReadOnlySpan<float> all, int layer)
    {
        int length = all.Length / _geometry.Layers;
        return all.Slice(layer * length, length);
    }

    private float[] LastOf(ReadOnlySpan<float> all, int tokens)
    {
        int length = all.Length / _geometry.Layers / tokens;
        float[] last = new float[length * _geometry.Layers];
        for (int layer = 0; layer < _geometry.Layers; layer++)
        {
            OfLayer(all, layer)[^length..].CopyTo(last.AsSpan(layer * length));
        }

        return last;
    }

    // Tokens of a file that knew no positions are found by their places.
    private void Reindex()
    {
        ReadOnlySpan<int> ids = Sequence.TokenIds;
        for (int index = 0; index < ids.Length; index++)
        {
            int position = ids[index] < 0 ? index : ids[index];
            _indexOf[position] = index;
            NextPosition = Math.Max(NextPosition, Next(position));
        }
    }
}
