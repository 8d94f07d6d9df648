using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>One token of a sequence written anew, in all layers and heads or in none. The sequence is the caller's.</summary>
internal readonly ref struct TokenReplacement
{
    private readonly KvSequence _sequence;
    private readonly KvCache _cache;
    private readonly PageTable _table;
    private readonly KvGeometry _geometry;
    private readonly int _position;
    private readonly ReadOnlySpan<float> _keys;
    private readonly ReadOnlySpan<float> _values;

    public TokenReplacement(KvSequence sequence, int position, ReadOnlySpan<float> keys, ReadOnlySpan<float> values)
    {
        (_sequence, _cache, _table, _geometry, _position) = (sequence, sequence.Cache, sequence.Table, sequence.Cache.Geometry, position);
        _keys = keys;
        _values = values;
        KvCache.ThrowIfOutside(position, _table.Length, nameof(position));
        ThrowIfNotOf(keys.Length, _table.Rows * _geometry.KeyWidth, nameof(keys));
        ThrowIfNotOf(values.Length, _table.Rows * _geometry.ValueWidth, nameof(values));
        ThrowIfNotReplaceable();
        FiniteCheck.ThrowIfRefused(_cache.Tier.Shape, keys, values, tokens: 1);
    }

    private int Page => _position / _geometry.PageTokens;

    public void Run()
    {
        using var taken = new Pooled<int>(_table.Rows);
        Span<int> slots = taken.Span[..Take(taken.Span)];
        bool published = false;
        try
        {
            using var classes = new Pooled<int>(slots.Length);
            Write(slots, classes.Span);
            published = true;
            Publish(slots, classes.Span);
        }
        finally
        {
            if (!published)
            {
                lock (_cache.Pool.Gate)
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
                    what, $"a position from {_table.FirstOpen * _geometry.PageTokens} on, not sealed into fewer bits, or {nameof(KvSequence.Truncate)} and an append",
                    $"a page sealed in {_cache.Classes.FormatsOf(_table.PageClass(row, entry))}");
            }
        }
    }

    // A slot for each row whose page others hold, or that is sealed: it must not change.
    private int Take(Span<int> slots)
    {
        lock (_cache.Pool.Gate)
        {
            int copies = 0;
            for (int row = 0; row < _table.Rows; row++)
            {
                copies += IsWritable(row) ? 0 : 1;
            }

            SlotCounts need = SlotCounts.Of(KernelShape.Open, copies);
            return _cache.TryTake(need, slots[..copies])
                ? copies
                : throw new Refusal("pages to replace a token in", _cache.BudgetBytes - _cache.AllocatedBytes, _cache.Pool.BytesOf(need), "bytes in slabs of their size").ToException();
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
                int slot = _table.Fresh(slots[copy], KernelShape.Open);
                Overwrite(row, slot);
                classes[copy++] = Seal(row, slot);
            }
        }

        for (int row = 0; row < _table.Rows; row++)
        {
            if (IsWritable(row))
            {
                Overwrite(row, Slot(row));
            }
        }
    }

    private void Publish(ReadOnlySpan<int> slots, ReadOnlySpan<int> classes)
    {
        lock (_cache.Pool.Gate)
        {
            for (int row = 0, copy = 0; copy < slots.Length; row++)
            {
                if (!IsWritable(row))
                {
                    _table.PublishReplaced(row, _table.EntryOf(row, Page), slots[copy], classes[copy]);
                    copy++;
                }
            }
        }
    }

    private void Overwrite(int row, int target)
    {
        PageLayout layout = _cache.Tier.Shape.Classes[KernelShape.Open];
        using var words = new Pooled<int>(layout.Units * PageLayout.UnitWords);
        lock (_cache.DeviceGate)
        {
            _cache.Tier.Read((long)Slot(row) * PageLayout.UnitWords, words.Span);
            OpenWords.Overwrite(
                layout, _geometry, _position % _geometry.PageTokens, _keys.Slice(row * _geometry.KeyWidth, _geometry.KeyWidth),
                _values.Slice(row * _geometry.ValueWidth, _geometry.ValueWidth), words.Span);
            _cache.Tier.Load((long)target * PageLayout.UnitWords, words.Span);
        }
    }

    // The digest of a sealed page follows its keys.
    private int Seal(int row, int slot)
    {
        int pageClass = _table.PageClass(row, _table.EntryOf(row, Page));
        if (pageClass == KernelShape.Open)
        {
            return pageClass;
        }

        Span<bool> kept = stackalloc bool[1];
        kept.Clear();
        lock (_cache.DeviceGate)
        {
            _cache.Tier.Transcode(
                [new PageMove(slot, KernelShape.Open, slot, pageClass, _geometry.PageTokens, _table.WritesSquares ? _table.ScoreWord(row, Page) : 0)], kept);
            _cache.Tier.Synchronize();
        }

        return kept[0] ? KernelShape.Open : pageClass;
    }

    private int Slot(int row) => _table.Slot(row, _table.EntryOf(row, Page));

    private bool IsWritable(int row) => !_table.IsSealed(row, _table.EntryOf(row, Page)) && _cache.Pool.IsWritable(Slot(row));

    private static void ThrowIfNotOf(int length, int expected, string name)
    {
        if (length != expected)
        {
            throw new ArgumentException($"{name}: expected {expected} elements, got {length}", name);
        }
    }
}
