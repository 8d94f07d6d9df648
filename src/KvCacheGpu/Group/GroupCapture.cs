using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Sequences of a group as one snapshot of the whole model: each part captures its rows, and the rows are told in the order of the whole. Pages follow each other
/// part by part.
/// </summary>
internal sealed class GroupCapture : IDisposable
{
    private static readonly TimeSpan CancelPoll = TimeSpan.FromMilliseconds(20);

    private readonly GroupShape _shape;
    private readonly CacheCapture[] _parts;

    // By part: its first page among all, and last the number of pages.
    private readonly int[] _first;

    private GroupCapture(KvCacheGroup group, SequenceState[]? chosen, string? tenant, CancellationToken cancel)
    {
        _shape = group.Shape;
        _parts = Array.ConvertAll(group.Caches, cache => new CacheCapture(cache.State));
        _first = new int[_parts.Length + 1];
        try
        {
            Capture(group.Caches[0].State, chosen, tenant, cancel);
            Content = Whole(Array.ConvertAll(_parts, part => part.Content));
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    private SnapshotContent Content { get; }

    /// <summary>Captures the sequences in all parts, and writes them while they go on.</summary>
    /// <exception cref="ArgumentException">Two sequences of one name and tenant.</exception>
    public static SnapshotInfo Save(
        KvCacheGroup group, SnapshotStore store, SnapshotName name, SequenceState[]? chosen, IProgress<SnapshotProgress>? progress, CancellationToken cancel)
    {
        using var capture = new GroupCapture(group, chosen, name.Tenant, cancel);
        return capture.Content.FirstFlaw() is { } flaw
            ? throw new ArgumentException($"expected {flaw}", nameof(chosen))
            : store.Save(name, capture.Content, capture.Read, progress, cancel);
    }

    public void Dispose()
    {
        foreach (CacheCapture part in _parts)
        {
            part.Dispose();
        }
    }

    private void Capture(CacheState first, SequenceState[]? chosen, string? tenant, CancellationToken cancel)
    {
        while (!first.CaptureGate.TryEnter(CancelPoll))
        {
            cancel.ThrowIfCancellationRequested();
        }

        try
        {
            foreach (SequenceState sequence in chosen ?? CacheCapture.Living(first, tenant))
            {
                if (!TryAdd(sequence, cancel) && chosen is not null)
                {
                    throw new ObjectDisposedException("KvGroupSequence", "expected live sequences, got one that was disposed");
                }
            }
        }
        finally
        {
            first.CaptureGate.Leave();
        }
    }

    // All parts are held at once: a step is in all of them or in none.
    private bool TryAdd(SequenceState sequence, CancellationToken cancel)
    {
        int entered = 0;
        try
        {
            for (; entered < _parts.Length; entered++)
            {
                if (!sequence.Parts[entered].Gate.EnterNext(cancel))
                {
                    return false;
                }
            }

            for (int part = 0; part < _parts.Length; part++)
            {
                _parts[part].Add(sequence.Parts[part]);
            }

            return true;
        }
        finally
        {
            for (int part = entered - 1; part >= 0; part--)
            {
                sequence.Parts[part].Gate.Leave();
            }
        }
    }

    private SnapshotContent Whole(SnapshotContent[] parts)
    {
        for (int part = 0; part < parts.Length; part++)
        {
            _first[part + 1] = checked(_first[part] + parts[part].Pages);
        }

        KernelShape shape = _shape.Classes.Shape;
        return parts[0] with
        {
            Geometry = _shape.Geometry,
            LayerClasses = shape.LayerClasses,
            Sequences = [.. Enumerable.Range(0, parts[0].Sequences.Count).Select(i => Whole(Array.ConvertAll(parts, part => part.Sequences[i])))],
            PageClasses = parts.SelectMany(part => part.PageClasses.ToArray()).ToArray(),
            PageStates = parts.SelectMany(part => part.PageStates.ToArray()).ToArray(),
        };
    }

    private SnapshotSequence Whole(SnapshotSequence[] parts)
    {
        int[] starts = new int[_shape.Rows + 1];
        for (int row = 0; row < _shape.Rows; row++)
        {
            ReadOnlySpan<int> own = parts[_shape.PartOf(row)].RowStarts.Span[_shape.OwnRow(row)..];
            starts[row + 1] = starts[row] + own[1] - own[0];
        }

        int[] ordinals = ByEntry(starts, part => parts[part].Ordinals, parts);
        for (int row = 0; row < _shape.Rows; row++)
        {
            foreach (ref int ordinal in ordinals.AsSpan(starts[row]..starts[row + 1]))
            {
                ordinal += _first[_shape.PartOf(row)];
            }
        }

        return parts[0] with
        {
            RowStarts = starts,
            PageIndexes = ByEntry(starts, part => parts[part].PageIndexes, parts),
            Ordinals = ordinals,
            Metadata = SequenceStanding.WithScales(
                parts[0].Metadata, _shape.WholeOf([.. parts.Select((own, part) => SequenceStanding.ScalesOf(own, GroupShape.GeometryOf(_shape.Geometry, _shape.Parts[part])))])),
            Scores = [.. parts[0].Scores.Select((column, i) => column with
            {
                Values = SequenceColumns.IsByRow(column.Name)
                    ? ByRow(part => parts[part].Scores[i].Values)
                    : ByEntry(starts, part => parts[part].Scores[i].Values, parts),
            })],
        };
    }

    private T[] ByEntry<T>(int[] starts, Func<int, ReadOnlyMemory<T>> columnOf, SnapshotSequence[] parts)
    {
        var all = new T[starts[^1]];
        for (int row = 0; row < _shape.Rows; row++)
        {
            int part = _shape.PartOf(row);
            columnOf(part).Span.Slice(parts[part].RowStarts.Span[_shape.OwnRow(row)], starts[row + 1] - starts[row]).CopyTo(all.AsSpan(starts[row]));
        }

        return all;
    }

    private float[] ByRow(Func<int, ReadOnlyMemory<float>> columnOf)
    {
        var all = new float[_shape.Rows];
        for (int row = 0; row < all.Length; row++)
        {
            all[row] = columnOf(_shape.PartOf(row)).Span[_shape.OwnRow(row)];
        }

        return all;
    }

    // A SnapshotPageReader: what is asked for may begin in one part and end in another.
    private void Read(int firstOrdinal, Span<byte> bytes)
    {
        int part = 0;
        for (int ordinal = firstOrdinal; bytes.Length > 0;)
        {
            while (ordinal >= _first[part + 1])
            {
                part++;
            }

            int end = ordinal;
            int length = 0;
            for (; end < _first[part + 1] && length < bytes.Length; end++)
            {
                length += Content.BytesOf(end);
            }

            _parts[part].Read(ordinal - _first[part], bytes[..length]);
            bytes = bytes[length..];
            ordinal = end;
        }
    }
}
