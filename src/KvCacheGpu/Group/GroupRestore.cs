namespace KvCacheGpu;

/// <summary>The sequences that were loaded into a group, and how much of them is as it was saved.</summary>
/// <remarks>Thread safety: it never changes; its sequences are used as each sequence is.</remarks>
public sealed record KvGroupRestored
{
    /// <summary>The snapshot.</summary>
    public required SnapshotInfo Snapshot { get; init; }

    /// <summary>The sequences, in the order in which they were saved. They live in the group, the caller's to use and to dispose.</summary>
    public required IReadOnlyList<KvGroupSequence> Sequences { get; init; }

    /// <summary>Pages of all parts that lie there bit for bit as they lay where they were saved; shared ones once.</summary>
    public long ExactPages { get; init; }

    /// <summary>Pages of all parts that were decoded and written anew, since formats, rotation or page size differ.</summary>
    public long ReencodedPages { get; init; }

    /// <summary>Entries of all parts that the policy dropped so that the rest fits the budget.</summary>
    public long EvictedPages { get; init; }

    /// <summary>Says what is not as it was saved, and why; empty if nothing differs.</summary>
    public IReadOnlyList<string> Notes { get; init; } = [];

    /// <summary>True if every sequence goes on exactly as it would have where it was saved.</summary>
    public bool IsExact => ReencodedPages == 0 && EvictedPages == 0 && Notes.Count == 0;
}

/// <summary>
/// Loads a snapshot of the whole model into the parts of a group. Each part restores the rows that it holds, out of the same pages; nothing is published before all
/// parts have all of theirs.
/// </summary>
internal sealed class GroupRestore
{
    private readonly KvCacheGroup _group;
    private readonly CacheRestore[] _parts;

    private GroupRestore(KvCacheGroup group, IReadOnlyCollection<string>? ids)
    {
        _group = group;
        _parts = Array.ConvertAll(group.Caches, cache => new CacheRestore(cache.State, cache.Life, cache.Pressure?.Evictor, ids));
    }

    /// <summary>Loads by a store and a name.</summary>
    public static KvGroupRestored Load(
        KvCacheGroup group,
        SnapshotStore store,
        SnapshotName name,
        IReadOnlyCollection<string>? ids,
        IProgress<SnapshotProgress>? progress,
        CancellationToken cancel)
    {
        KvGroupRestored? restored = null;
        SnapshotInfo info = store.Load(name, snapshot =>
        {
            RestoreCheck.Tenant(snapshot.Info, snapshot.Content);
            RestoreCheck.Model(group.Geometry, group.Caches[0].State.Options.ModelFingerprint, snapshot.Content);
            restored = new GroupRestore(group, ids).Run(snapshot, progress, cancel);
        }, cancel);
        return restored! with { Snapshot = info };
    }

    private KvGroupRestored Run(OpenSnapshot snapshot, IProgress<SnapshotProgress>? progress, CancellationToken cancel)
    {
        int made = 0;
        try
        {
            for (; made < _parts.Length; made++)
            {
                _parts[made].Make(OfPart(snapshot.Content, made));
            }

            Link();
            TakeAll();
            if (Array.TrueForAll(_parts, part => part.ReadsInOrder))
            {
                snapshot.ReadAll(Write, progress, cancel);
            }
            else
            {
                foreach (CacheRestore part in _parts)
                {
                    part.ReadPages(snapshot, progress, cancel);
                }
            }

            cancel.ThrowIfCancellationRequested();
        }
        catch
        {
            for (int part = made - 1; part >= 0; part--)
            {
                _parts[part].Abandon();
            }

            throw;
        }

        return Complete(snapshot.Info);
    }

    // Pages in all parts. Where one lacks room, the policy drops some of the whole sequences, by one plan for each: as much in all as gives the part what it lacks.
    private void TakeAll()
    {
        for (int round = 0; ; round++)
        {
            KvShortage?[] lacks = Array.ConvertAll(_parts, part => part.TryTake());
            int lacking = Array.FindIndex(lacks, lack => lack is not null);
            if (lacking < 0)
            {
                break;
            }

            KvShortage shortage = lacks[lacking]!.Value;
            bool[][][] drops = PlanDrops(lacking, shortage, round) ?? throw _group.Caches[lacking].State.Counts.Refuse(shortage);
            for (int part = 0; part < _parts.Length; part++)
            {
                _parts[part].LeaveOut(drops[part]);
            }
        }

        Array.ForEach(_parts, part => part.MakeReady());
    }

    // By part, sequence and entry; null if nothing may go.
    private bool[][][]? PlanDrops(int lacking, in KvShortage shortage, int round)
    {
        (int[] RowStarts, int[] PageIndexes, int[] Bytes)[]?[] droppable = Array.ConvertAll(_parts, part => part.Droppable(round));
        if (_group.Eviction is not { } eviction || Array.IndexOf(droppable, null) >= 0)
        {
            return null;
        }

        IReadOnlyList<SequenceState> sequences = _parts[0].Sequences;
        double missing = RestoreEviction.Wanted(shortage, round) * _group.Shape.Rows / _group.Shape.RowsOf(lacking);
        double[] bytes = [.. sequences.Select((_, i) => droppable.Sum(part => part![i].Bytes.Sum(b => (double)b)))];
        double all = Math.Max(1, bytes.Sum());
        bool[][][] bySequence = [.. sequences.Select((sequence, i) =>
            eviction.PlanRestored(sequence, [.. droppable.Select(part => part![i])], (long)Math.Ceiling(missing * bytes[i] / all)))];
        bool any = bySequence.Any(parts => parts.Any(entries => entries.Contains(true)));
        return any ? [.. _parts.Select((_, part) => bySequence.Select(parts => parts[part]).ToArray())] : null;
    }

    private void Write(int firstOrdinal, ReadOnlySpan<byte> bytes)
    {
        foreach (CacheRestore part in _parts)
        {
            part.Write(firstOrdinal, bytes);
        }
    }

    // While they are held, so that the policy finds all parts of a sequence once it finds the first.
    private void Link()
    {
        for (int i = 0; i < _parts[0].Sequences.Count; i++)
        {
            _parts[0].Sequences[i].Parts = Array.ConvertAll(_parts, part => part.Sequences[i]);
        }
    }

    // The first part last. Only a disposal of the group beside it makes a part fail here: then nothing stays in the others either.
    private KvGroupRestored Complete(SnapshotInfo info)
    {
        var done = new RestoredSequences[_parts.Length];
        int part = _parts.Length - 1;
        try
        {
            for (; part >= 0; part--)
            {
                done[part] = _parts[part].Complete();
            }
        }
        catch
        {
            for (int left = part; left >= 0; left--)
            {
                _parts[left].Abandon();
            }

            for (int published = part + 1; published < done.Length; published++)
            {
                foreach (SequenceState sequence in done[published].Sequences)
                {
                    _group.Caches[published].Life.Dispose(sequence);
                }
            }

            throw;
        }

        return new KvGroupRestored
        {
            Snapshot = info,
            Sequences = [.. done[0].Sequences.Select(first => KvGroupSequence.Of(_group, first))],
            ExactPages = done.Sum(own => own.ExactPages),
            ReencodedPages = done.Sum(own => own.ReencodedPages),
            EvictedPages = done.Sum(own => own.EvictedPages),
            Notes = [.. done.SelectMany(own => own.Notes).Distinct()],
        };
    }

    // The rows of a part, of all pages: those that no row of it lists are passed over when they come.
    private SnapshotContent OfPart(SnapshotContent whole, int part)
    {
        KvPart own = _group.Shape.Parts[part];
        return whole with
        {
            Geometry = GroupShape.GeometryOf(whole.Geometry, own),
            LayerClasses = [.. whole.LayerClasses.Skip(own.FirstLayer).Take(own.Layers)],
            Sequences = [.. whole.Sequences.Select(saved => OfPart(saved, part))],
        };
    }

    private SnapshotSequence OfPart(SnapshotSequence saved, int part)
    {
        GroupShape shape = _group.Shape;
        int[] rows = [.. Enumerable.Range(0, shape.Rows).Where(row => shape.PartOf(row) == part).OrderBy(shape.OwnRow)];
        int[] all = saved.RowStarts.ToArray();
        int[] starts = new int[rows.Length + 1];
        for (int row = 0; row < rows.Length; row++)
        {
            starts[row + 1] = starts[row] + all[rows[row] + 1] - all[rows[row]];
        }

        return saved with
        {
            RowStarts = starts,
            PageIndexes = ByEntry(saved.PageIndexes.Span),
            Ordinals = ByEntry(saved.Ordinals.Span),
            Metadata = SequenceStanding.WithScales(
                saved.Metadata, SequenceStanding.ScalesOf(saved, shape.Geometry) is { } scales ? shape.PartOf(scales, part) : null),
            Scores = [.. saved.Scores.Select(column => column with
            {
                Values = SequenceColumns.IsByRow(column.Name) ? ByRow(column.Values.Span) : column.Values.Length == saved.Entries ? ByEntry(column.Values.Span) : default,
            })],
        };

        T[] ByEntry<T>(ReadOnlySpan<T> column)
        {
            var entries = new T[starts[^1]];
            for (int row = 0; row < rows.Length; row++)
            {
                column[all[rows[row]]..all[rows[row] + 1]].CopyTo(entries.AsSpan(starts[row]));
            }

            return entries;
        }

        float[] ByRow(ReadOnlySpan<float> column)
        {
            var values = new float[column.Length == shape.Rows ? rows.Length : 0];
            for (int row = 0; row < values.Length; row++)
            {
                values[row] = column[rows[row]];
            }

            return values;
        }
    }
}
