using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Writes one token of a sequence anew, in all layers and heads or in none. The sequence is the caller's.</summary>
internal readonly ref struct TokenReplacement
{
    private readonly CacheState _cache;
    private readonly long _id;
    private readonly PageTable _table;
    private readonly KvGeometry _geometry;
    private readonly int _position;
    private readonly ReadOnlySpan<float> _keys;
    private readonly ReadOnlySpan<float> _values;

    /// <exception cref="ArgumentException">No such token, or a tensor of another length.</exception>
    /// <exception cref="KvNonFiniteException">E004: a number that the page formats do not hold.</exception>
    /// <exception cref="KvUnsupportedException">E009: the token cannot be replaced where it lies.</exception>
    public TokenReplacement(CacheState cache, SequenceState sequence, int position, ReadOnlySpan<float> keys, ReadOnlySpan<float> values)
    {
        (_cache, _table, _geometry, _position) = (cache, sequence.Table, cache.Geometry, position);
        _id = sequence.Id;
        _keys = keys;
        _values = values;
        Guard.ThrowIfOutside(position, _table.Length, nameof(position));
        Guard.ThrowIfNotOf(keys.Length, _table.Rows * _geometry.KeyWidth, nameof(keys));
        Guard.ThrowIfNotOf(values.Length, _table.Rows * _geometry.ValueWidth, nameof(values));
        ThrowIfNotReplaceable();
        FiniteCheck.ThrowIfRefused(cache.Tier.Shape, keys, values, tokens: 1);
    }

    private int Page => _position / _geometry.PageTokens;

    /// <summary>Writes it.</summary>
    /// <exception cref="KvOutOfMemoryException">E001: no room for the copies of pages; nothing has changed.</exception>
    public void Run()
    {
        using var taken = new Pooled<int>(_table.Rows);
        int copies;
        while (TryTake(taken.Span, out copies) is { } shortage)
        {
            // Steps that wait for their outcome hold pages twice.
            if (!_cache.Unsettled.SettleAll())
            {
                throw _cache.Counts.Refuse(shortage with { Sequence = _id });
            }
        }

        Span<int> slots = taken.Span[..copies];
        bool listed = false;
        try
        {
            using var classes = new Pooled<int>(slots.Length);
            Write(slots, classes.Span);
            listed = true;
            List(slots, classes.Span);
        }
        finally
        {
            if (!listed)
            {
                using (_cache.Pool.Gate.Enter())
                {
                    _cache.Pool.Release(slots);
                }
            }
        }
    }

    private void ThrowIfNotReplaceable()
    {
        string what = $"Replace at position {_position}";
        if (_cache.Prefixes is not null)
        {
            throw new KvUnsupportedException(what, $"a cache without {nameof(KvCacheOptions.PrefixReuse)}: blocks are known by their token ids", "one that reuses prefixes");
        }

        IReadOnlyList<PageLayout> classes = _cache.Tier.Shape.Classes;
        for (int row = 0; row < _table.Rows; row++)
        {
            int entry = _table.EntryOf(row, Page);
            if (entry < 0 || _table.IsMerged(row, entry))
            {
                throw new KvUnsupportedException(what, "a token that is there in every layer and head, in a page that was not merged", $"one dropped or merged in layer {row / _geometry.KvHeads}");
            }

            if (classes[_table.PageClass(row, entry)] != classes[KernelShape.Open])
            {
                throw new KvUnsupportedException(
                    what, $"a position from {_table.FirstOpen * _geometry.PageTokens} on, not sealed into fewer bits, or a truncation and an append",
                    $"a page sealed in {_cache.Classes.FormatsOf(_table.PageClass(row, entry))}");
            }
        }
    }

    // A slot for each row whose page others hold, or that is sealed: it must not change.
    private KvShortage? TryTake(Span<int> slots, out int copies)
    {
        using (_cache.Pool.Gate.Enter())
        {
            copies = 0;
            for (int row = 0; row < _table.Rows; row++)
            {
                copies += IsWritable(row) ? 0 : 1;
            }

            return _cache.Room.TakeOrRefuse("a replacement of a token", SlotCounts.Of(KernelShape.Open, copies), slots[..copies]);
        }
    }

    // Copies first: until all of them are written, nothing of the sequence has changed.
    private void Write(ReadOnlySpan<int> slots, Span<int> classes)
    {
        int copy = 0;
        for (int row = 0; row < _table.Rows; row++)
        {
            if (!IsWritable(row))
            {
                int slot = _cache.Writer.Ready(slots[copy], KernelShape.Open, _table.Owner);
                Put(row, slot);
                classes[copy++] = Seal(row, slot);
            }
        }

        for (int row = 0; row < _table.Rows; row++)
        {
            if (IsWritable(row))
            {
                Put(row, Slot(row));
            }
        }
    }

    private void List(ReadOnlySpan<int> slots, ReadOnlySpan<int> classes)
    {
        using (_cache.Pool.Gate.Enter())
        {
            for (int row = 0, copy = 0; copy < slots.Length; row++)
            {
                if (!IsWritable(row))
                {
                    List(row, _table.EntryOf(row, Page), slots[copy], classes[copy]);
                    copy++;
                }
            }
        }
    }

    private void List(int row, int entry, int slot, int pageClass)
    {
        if (_table.IsSealed(row, entry))
        {
            _table.Swap(row, entry, slot, pageClass);
            return;
        }

        int before = _table.Slot(row, entry);
        _cache.Pool.SetEncodings(slot, _cache.Pool.EncodingsOf(before));
        _table.Relist(row, entry, slot, pageClass);
        _cache.Pool.Release(before);
    }

    private void Put(int row, int target) => _cache.Writer.PutToken(
        Slot(row), target, _position % _geometry.PageTokens,
        _keys.Slice(row * _geometry.KeyWidth, _geometry.KeyWidth), _values.Slice(row * _geometry.ValueWidth, _geometry.ValueWidth));

    // The digest of a sealed page follows its keys.
    private int Seal(int row, int slot)
    {
        int pageClass = _table.PageClass(row, _table.EntryOf(row, Page));
        return pageClass != KernelShape.Open && _cache.Writer.SealInPlace(slot, pageClass, _cache.Writer.SquaresOf(_table, row, Page)) == PageOutcome.Kept
            ? KernelShape.Open : pageClass;
    }

    private int Slot(int row) => _table.Slot(row, _table.EntryOf(row, Page));

    private bool IsWritable(int row) => !_table.IsSealed(row, _table.EntryOf(row, Page)) && _cache.Pool.IsWritable(Slot(row));
}
