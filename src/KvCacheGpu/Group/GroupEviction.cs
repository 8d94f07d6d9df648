namespace KvCacheGpu;

/// <summary>
/// One plan for all parts of a group: lists the pages of a sequence's rows from every part in the order of the whole model, asks the policy once, and hands
/// each part its transitions. Sequences are named by those of the first part, whose gates the callers hold.
/// </summary>
/// <remarks>
/// <code>
/// part 0: gather --+                                                     +-- part 0: carry out
/// part 1: gather --+-- rows in the whole's order -- the policy's plan ---+-- part 1: carry out
/// </code>
/// </remarks>
internal sealed class GroupEviction : IEviction, IDisposable
{
    private readonly GroupShape _shape;
    private readonly KvPolicy _policy;
    private readonly KvCache[] _caches;
    private readonly PlanMemory _memory;
    private readonly PlanRungs _rungs;

    /// <param name="shape">The tiling.</param>
    /// <param name="policy">Plans.</param>
    /// <param name="caches">The parts' caches.</param>
    /// <param name="ledger">Told of the memory that plans are made in.</param>
    public GroupEviction(GroupShape shape, KvPolicy policy, KvCache[] caches, MemoryLedger ledger)
    {
        (_shape, _policy, _caches, _rungs) = (shape, policy, caches, new PlanRungs(shape.Classes));
        _memory = new PlanMemory(shape.Classes.Shape, caches[0].State.Needs, ledger);
    }

    /// <inheritdoc/>
    public long Evictable(SequenceState sequence)
    {
        long bytes = 0;
        if (TryEnterOthers(sequence))
        {
            try
            {
                for (int part = 0; part < _caches.Length; part++)
                {
                    bytes += OwnOf(part).Evictable(sequence.Parts[part]);
                }
            }
            finally
            {
                LeaveOthers(sequence, _caches.Length);
            }
        }

        return bytes;
    }

    /// <inheritdoc/>
    public long Evict(SequenceState sequence, long bytesToFree, long step, bool mayDemote)
    {
        if (!TryEnterOthers(sequence))
        {
            return 0;
        }

        long began = Durations.Begin(Durations.Plan);
        try
        {
            long freed;
            using (_memory.Gate.Enter())
            {
                Gather(sequence, mayDemote);
                Plan(sequence, step, bytesToFree);
                freed = CarryOut(sequence);
            }

            CacheCounts counts = _caches[0].State.Counts;
            Durations.End(Durations.Plan, began, counts.Own);
            CacheEvents.Log.NoteEviction(counts.Name, sequence.Id, freed);
            return freed;
        }
        finally
        {
            LeaveOthers(sequence, _caches.Length);
        }
    }

    /// <inheritdoc/>
    public void Compact(SequenceState sequence)
    {
        if (TryEnterOthers(sequence))
        {
            try
            {
                for (int part = 0; part < _caches.Length; part++)
                {
                    OwnOf(part).Compact(sequence.Parts[part]);
                }
            }
            finally
            {
                LeaveOthers(sequence, _caches.Length);
            }
        }
    }

    /// <inheritdoc/>
    public long Excess()
    {
        (long pages, long room) = (0, 0);
        for (int part = 0; part < _caches.Length; part++)
        {
            if (OwnOf(part).Load() is not { } load)
            {
                return 0;
            }

            (pages, room) = (pages + load.Pages, room + load.Room);
        }

        return pages - (long)(_caches[0].Watermark * room);
    }

    /// <inheritdoc/>
    public long OfWhole(long bytes) => (long)Int128.Min(long.MaxValue, ((Int128)bytes * _shape.Rows) / _shape.RowsOf(0));

    public void Dispose()
    {
        using (_memory.Gate.Enter())
        {
            _memory.Dispose();
        }
    }

    /// <summary>Plans which pages to leave out of a sequence that is being restored in all parts, and held.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="parts">By part, as <see cref="Evictor.PlanRestored"/> takes them.</param>
    /// <param name="bytesToFree">Bytes to free in all parts.</param>
    /// <returns>By part and entry: true if the entry goes.</returns>
    public bool[][] PlanRestored(SequenceState sequence, (int[] RowStarts, int[] PageIndexes, int[] Bytes)[] parts, long bytesToFree)
    {
        using (_memory.Gate.Enter())
        {
            var entries = new int[parts.Length][];
            for (int part = 0; part < parts.Length; part++)
            {
                Evictor evictor = OwnOf(part).Evictor;
                using (evictor.Memory.Gate.Enter())
                {
                    entries[part] = evictor.GatherRestored(sequence.Parts[part], parts[part].RowStarts, parts[part].PageIndexes, parts[part].Bytes);
                }
            }

            Collect();
            Plan(sequence, _caches[0].State.Clock.NextStep, bytesToFree);
            return [.. entries.Select((own, part) => OwnOf(part).Evictor.Dropped(own, parts[part].PageIndexes.Length))];
        }
    }

    private CacheEviction OwnOf(int part) => _caches[part].Pressure!.Own;

    // The plan gate of a part is left between gathering and carrying out: who enters it meanwhile, for another sequence, uses the room for scores of a leaf alone.
    private void Gather(SequenceState sequence, bool mayDemote)
    {
        for (int part = 0; part < _caches.Length; part++)
        {
            Evictor evictor = OwnOf(part).Evictor;
            using (evictor.Memory.Gate.Enter())
            {
                evictor.Gather(sequence.Parts[part], mayDemote);
            }
        }

        Collect();
    }

    // The rows of all parts, in the whole's order.
    private void Collect()
    {
        int count = 0;
        for (int row = 0; row < _shape.Rows; row++)
        {
            _memory.RowStarts[row] = count;
            ReadOnlySpan<int> starts = OwnOf(_shape.PartOf(row)).Evictor.Memory.RowStarts[_shape.OwnRow(row)..];
            count += starts[1] - starts[0];
        }

        _memory.RowStarts[_shape.Rows] = _memory.Count = count;
        _rungs.Clear();
        for (int row = 0; row < _shape.Rows; row++)
        {
            Evictor evictor = OwnOf(_shape.PartOf(row)).Evictor;
            _memory.CopyRow(evictor.Memory, _shape.OwnRow(row), row);
            int from = evictor.Memory.RowStarts[_shape.OwnRow(row)] - _memory.RowStarts[row];
            for (int page = _memory.RowStarts[row]; page < _memory.RowStarts[row + 1]; page++)
            {
                _memory.Class[page] = _rungs.Of(evictor.Rungs, evictor.Memory.Class[from + page]);
            }
        }
    }

    private void Plan(SequenceState sequence, long step, long bytesToFree)
    {
        _memory.Plan.Clear();
        _policy.Plan(_memory.View(_shape.Geometry, _rungs.Ladder, sequence, step), bytesToFree, _memory.Plan, sequence.Scores?.State);
        Spread();
    }

    // Hands each part the transitions of its rows.
    private void Spread()
    {
        for (int row = 0; row < _shape.Rows; row++)
        {
            PlanMemory own = OwnOf(_shape.PartOf(row)).Evictor.Memory;
            _memory.Plan[_memory.RowStarts[row].._memory.RowStarts[row + 1]].CopyTo(own.Plan[own.RowStarts[_shape.OwnRow(row)]..]);
        }
    }

    private long CarryOut(SequenceState sequence)
    {
        long freed = 0;
        for (int part = 0; part < _caches.Length; part++)
        {
            Evictor evictor = OwnOf(part).Evictor;
            using (evictor.Memory.Gate.Enter())
            {
                freed += evictor.CarryOut(sequence.Parts[part]);
            }
        }

        return freed;
    }

    // One that is still being made has no parts; one that is being disposed, or whose step ends in some parts, has others inside: it gives nothing now.
    private static bool TryEnterOthers(SequenceState sequence)
    {
        if (sequence.Parts.Length == 0)
        {
            return false;
        }

        for (int part = 1; part < sequence.Parts.Length; part++)
        {
            if (!sequence.Parts[part].Gate.TryEnterEviction())
            {
                LeaveOthers(sequence, part);
                return false;
            }
        }

        return true;
    }

    private static void LeaveOthers(SequenceState sequence, int end)
    {
        for (int part = end - 1; part > 0; part--)
        {
            sequence.Parts[part].Gate.Leave();
        }
    }
}

/// <summary>In the parts of a group behind the first: nothing is decided there, so that nothing has to go.</summary>
internal sealed class NoEviction : IEviction
{
    public static readonly NoEviction Instance = new();

    public long Evictable(SequenceState sequence) => 0;

    public long Evict(SequenceState sequence, long bytesToFree, long step, bool mayDemote) => 0;

    public void Compact(SequenceState sequence)
    {
    }

    public long Excess() => 0;

    public long OfWhole(long bytes) => bytes;
}
