using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// The key scales of a cache whose pages may come into T formats: which of the tier's two tables hold which scales, which sequence is under which, and the
/// learning of scales that nobody supplied. A sequence is <em>bound</em> to a table before its first T page is written, and until it goes or is cut to nothing. A table may be set
/// anew once no sequence is bound to it.
/// </summary>
/// <remarks>
/// <code>
/// not learned:  kernels add up the queries' squares | the first sequence that seals (or demotes) into a T format after enough queries: its newest whole pages,
///               in the precision in which they lie, give the keys' variances -> scales, for it and all that are bound later
///               a sequence that seals before there were enough queries is bound to scales of 1
///               a snapshot that is loaded brings its scales, which count as learned
/// learned:      frozen; a snapshot may bring sequences under other scales, as long as a table is free
/// </code>
/// Callers hold the sequences that they bind.
/// </remarks>
internal sealed class KeyScaling
{
    /// <summary>Whole pages of each row that keys are learned from, at most.</summary>
    private const int PagesOfRow = 8;

    /// <summary>Tokens that must have been attended with in every layer before scales are learned.</summary>
    private const int LeastQueries = 16;

    private readonly CacheState _cache;
    private readonly Gate _gate = new(GateOrder.Scales);
    private readonly KvKeyScales?[] _tables = new KvKeyScales?[KernelTier.KeyTables];
    private readonly int[] _users = new int[KernelTier.KeyTables];
    private readonly int[] _queries;
    private readonly bool[] _isScaled;
    private readonly KvKeyScales _none;
    private volatile int _current = -1;

    private KeyScaling(CacheState cache, bool[] isScaled)
    {
        (_cache, _isScaled, _queries, _none) = (cache, isScaled, new int[isScaled.Length], KvKeyScales.None(cache.Geometry));
        SealsScaled = Enumerable.Range(0, isScaled.Length).Any(layer => IsScaled(cache.Classes.SealedIn(layer)));
        Replace(cache.Options.KeyScales);
    }

    /// <summary>True if pages of some layer are sealed in a T format, so that blocks of the prefix index hold such pages.</summary>
    public bool SealsScaled { get; }

    /// <summary>The scales that sequences are bound to from now on; null while they are not learned.</summary>
    public KvKeyScales? Current => _current is >= 0 and int table ? _tables[table] : null;

    /// <summary>The scales of a cache; null if none of its pages come into a T format.</summary>
    public static KeyScaling? Of(CacheState cache)
    {
        KernelShape shape = cache.Tier.Shape;
        bool[] isScaled = [.. shape.LayerClasses.Select(classes => shape.Classes.Where((layout, c) => (classes & (1 << c)) != 0 && layout.KeyFormat.IsCentered()).Any())];
        return Array.IndexOf(isScaled, true) >= 0 ? new KeyScaling(cache, isScaled) : null;
    }

    /// <summary>True if keys of pages of a class are scaled.</summary>
    public bool IsScaled(int pageClass) => _cache.Classes.Shape.Classes[pageClass].KeyFormat.IsCentered();

    /// <summary>The scales that a sequence's T pages are under; null if it can have none yet.</summary>
    public KvKeyScales? Of(PageTable table) => table.KeyTable < 0 ? null : _tables[table.KeyTable];

    /// <summary>Counts queries that a layer was attended with, while that is of interest.</summary>
    public void NoteQueries(int layer, int tokens)
    {
        if (_current < 0)
        {
            Interlocked.Add(ref _queries[layer], tokens);
        }
    }

    /// <summary>Binds a sequence that is about to have its first T page. Where scales are to be learned from its pages, this waits for the device.</summary>
    /// <param name="sequence">The sequence; nothing is done for one that is bound.</param>
    /// <param name="ofStep">Tokens of a step under way.</param>
    /// <returns>True if it was not bound before.</returns>
    public bool Bind(SequenceState sequence, int ofStep = 0)
    {
        if (sequence.Table.KeyTable >= 0)
        {
            return false;
        }

        using (_gate.Enter())
        {
            // Where no table is free for what would be learned, there is nothing to wait for.
            if (_current < 0 && FreeTable() >= 0 && TryLearn(sequence.Table, ofStep) is { } learned)
            {
                SetCurrent(TryPlace(learned));
            }

            Put(sequence, KnownTable());
            return true;
        }
    }

    /// <summary>Binds those of some sequences that are not bound, without learning, to what is known now: all to one table.</summary>
    public void BindKnown(IEnumerable<SequenceState> sequences)
    {
        using (_gate.Enter())
        {
            foreach (SequenceState sequence in sequences)
            {
                if (sequence.Table.KeyTable < 0)
                {
                    Put(sequence, KnownTable());
                }
            }
        }
    }

    /// <summary>Binds a sequence to the scales that its pages were saved under. Where nothing is learned yet, they become those of all that come.</summary>
    /// <param name="sequence">The sequence, which is not bound.</param>
    /// <param name="scales">The scales; null if they are 1.</param>
    /// <param name="isAdopted">True if they became those of all that come.</param>
    /// <returns>False if both tables are in use with other scales.</returns>
    public bool TryBind(SequenceState sequence, KvKeyScales? scales, out bool isAdopted)
    {
        isAdopted = false;
        using (_gate.Enter())
        {
            int table = TryPlace(scales ?? _none);
            if (table >= 0)
            {
                Put(sequence, table);
                isAdopted = _current < 0 && scales is { IsNone: false };
                if (isAdopted)
                {
                    SetCurrent(table);
                }
            }

            return table >= 0;
        }
    }

    /// <summary>Gives up scales that <see cref="TryBind"/> adopted, after a load that failed: learning begins anew, unless a sequence is under them by now.</summary>
    public void GiveUp(KvKeyScales adopted)
    {
        using (_gate.Enter())
        {
            if (_current >= 0 && _tables[_current] == adopted && Volatile.Read(ref _users[_current]) == 0)
            {
                _current = -1;
                BeginLearning();
            }
        }
    }

    /// <summary>Binds a fork as the sequence is bound.</summary>
    public void Share(SequenceState sequence, SequenceState fork)
    {
        if (sequence.Table.KeyTable is >= 0 and int table)
        {
            Put(fork, table);
        }
    }

    /// <summary>Frees a sequence that has no T page, to be bound anew.</summary>
    public void Unbind(SequenceState sequence)
    {
        if (sequence.Table.KeyTable >= 0)
        {
            Leave(sequence.Table);
            if (SealsScaled && sequence.Chain is { } chain)
            {
                chain.Root = _cache.NamespaceOf(sequence.Options, null).ToHash();
            }
        }
    }

    /// <summary>Lets a sequence go, whose pages are gone.</summary>
    public void Leave(PageTable table)
    {
        if (table.KeyTable >= 0)
        {
            Interlocked.Decrement(ref _users[table.KeyTable]);
            table.KeyTable = -1;
        }
    }

    /// <summary>Sets the scales of sequences that are bound from now on; null has them learned from the next pages.</summary>
    /// <exception cref="KvConcurrencyException">E006: sequences are under two other tables.</exception>
    public void Replace(KvKeyScales? scales)
    {
        using (_gate.Enter())
        {
            int before = _current;
            _current = -1;
            int table = scales is null ? FreeTable() : TryPlace(scales);
            if (table < 0)
            {
                _current = before;
                throw new KvConcurrencyException(
                    "key scales", $"sequences under one other table at most: dispose those of one of the {KernelTier.KeyTables} that are in use", $"{_users[0]} and {_users[1]}");
            }

            if (scales is not null)
            {
                SetCurrent(table);
                return;
            }

            BeginLearning();
        }
    }

    // What is counted was added up: the sums begin first.
    private void BeginLearning()
    {
        using (_cache.DeviceGate.Enter())
        {
            _cache.Tier.SumsQueries = true;
        }

        Array.Clear(_queries);
    }

    // The caller is inside of the gate, or holds a sequence that is bound to the table.
    private void Put(SequenceState sequence, int table)
    {
        Interlocked.Increment(ref _users[table]);
        sequence.Table.KeyTable = table;
        if (SealsScaled && sequence.Chain is { } chain && _tables[table] is { IsNone: false } scales)
        {
            chain.Root = _cache.NamespaceOf(sequence.Options, scales).ToHash();
        }
    }

    private void SetCurrent(int table)
    {
        _current = table;
        using (_cache.DeviceGate.Enter())
        {
            _cache.Tier.SumsQueries = false;
        }
    }

    // Scales of 1 where nothing is learned; where no table is free for those, one in use: any is right, if not made for these keys.
    private int KnownTable()
    {
        int table = _current >= 0 ? _current : TryPlace(_none);
        return table >= 0 ? table : 0;
    }

    private int TryPlace(KvKeyScales scales)
    {
        int known = Array.FindIndex(_tables, own => own?.Fingerprint == scales.Fingerprint);
        int table = known >= 0 ? known : FreeTable();
        if (known < 0 && table >= 0)
        {
            using (_cache.DeviceGate.Enter())
            {
                _cache.Tier.SetKeyScales(table, scales);
            }

            _tables[table] = scales;
        }

        return table;
    }

    // Pages under a table's scales that no sequence holds cannot be found: their blocks' hashes name the scales.
    private int FreeTable()
    {
        for (int table = 0; table < _tables.Length; table++)
        {
            if (table != _current && Volatile.Read(ref _users[table]) == 0)
            {
                return table;
            }
        }

        return -1;
    }

    private KvKeyScales? TryLearn(PageTable table, int ofStep)
    {
        KvGeometry geometry = _cache.Geometry;
        for (int layer = 0; layer < geometry.Layers; layer++)
        {
            if (_isScaled[layer] && Volatile.Read(ref _queries[layer]) < LeastQueries)
            {
                return null;
            }
        }

        int width = geometry.KeyWidth;
        float[] squares = new float[table.Rows * width];
        float[] keys = new float[PagesOfRow * geometry.PageTokens * width];
        double[] variances = new double[width];
        double[] asked = new double[width];
        byte[] exponents = new byte[squares.Length];
        using (_cache.DeviceGate.Enter())
        {
            _cache.Tier.ReadQuerySums(squares);
        }

        int turned = geometry.Rope?.Width is > 0 and int some ? some : width & ~1;
        int whole = (table.Length + ofStep) / geometry.PageTokens;

        // A page of one token is its own mean, and has no variance: scales of 1 are right.
        bool isTaught = geometry.PageTokens == 1;
        for (int row = 0; row < table.Rows; row++)
        {
            int pages = _isScaled[row / geometry.KvHeads] ? _cache.Reader.DecodeNewestKeys(table, row, whole, PagesOfRow, keys) : 0;
            AddVariances(keys, pages, geometry.PageTokens, variances);
            for (int i = 0; i < width; i++)
            {
                asked[i] = squares[(row * width) + i];
            }

            if (!AreFinite(variances) || !AreFinite(asked))
            {
                // Of a step that is about to be refused, or that the cache keeps as it is. Sums that hold NaN stay NaN: they begin anew.
                BeginLearning();
                return null;
            }

            isTaught |= ScaleFit.Fit(variances, asked, turned, exponents.AsSpan(row * width, width));
        }

        if (!isTaught)
        {
            // Zeros alone, as of a run that warms a device up.
            BeginLearning();
            return null;
        }

        return new KvKeyScales(geometry, exponents);
    }

    private static bool AreFinite(ReadOnlySpan<double> numbers)
    {
        double sum = 0;
        foreach (double number in numbers)
        {
            sum += number;
        }

        return double.IsFinite(sum);
    }

    // By element, over pages: squares of what is left of it once its page's mean is taken out.
    private static void AddVariances(ReadOnlySpan<float> keys, int pages, int pageTokens, Span<double> variances)
    {
        int width = variances.Length;
        variances.Clear();
        for (int page = 0; page < pages; page++)
        {
            ReadOnlySpan<float> own = keys.Slice(page * pageTokens * width, pageTokens * width);
            for (int i = 0; i < width; i++)
            {
                (double sum, double square) = (0, 0);
                for (int at = i; at < own.Length; at += width)
                {
                    (sum, square) = (sum + own[at], square + ((double)own[at] * own[at]));
                }

                variances[i] += Math.Max(0, square - (sum * sum / pageTokens));
            }
        }
    }
}
