namespace KvCacheGpu;

/// <content>What stays of sequences for others to begin with.</content>
public sealed partial class KvCache
{
    private const int MostOwnersKnown = 1 << 16;

    private readonly Dictionary<string, int> _owners = new(StringComparer.Ordinal);
    private readonly HashSet<KvPrefixPin> _pins = [];
    private int _lastOwner = 1;

    /// <summary>
    /// Bytes of pages that no sequence holds: resident for <see cref="KvSequence.Reuse"/> until their slots are needed, least recently used first.
    /// Steps count them as free. Part of <see cref="AllocatedBytes"/>.
    /// </summary>
    public long CachedBytes
    {
        get
        {
            lock (Pool.Gate)
            {
                ObjectDisposedException.ThrowIf(_disposed, this);
                return Pool.CachedBytes;
            }
        }
    }

    /// <summary>Takes what was stored and removed since the last call, oldest first; empty without <see cref="KvCacheOptions.PrefixEvents"/>.</summary>
    public IReadOnlyList<PrefixEvent> TakePrefixEvents()
    {
        lock (Pool.Gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            return Prefixes?.Index.TakeEvents() ?? [];
        }
    }

    /// <summary>Forgets every prefix and gives their pages back, as after a change of weights.</summary>
    /// <returns>False, and nothing has changed, where a sequence or pin still holds one.</returns>
    public bool TryClearPrefixes()
    {
        lock (Pool.Gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            return Prefixes?.Index.TryReset() ?? true;
        }
    }

    /// <summary>Keeps what is resident of a prefix from being given up, as for a system prompt that must always be hit.</summary>
    /// <param name="options">The namespace; retention is not looked at.</param>
    /// <param name="ids">Token ids.</param>
    /// <returns>The pin, of 0 tokens where nothing of the prefix is resident. Disposed with the cache at the latest.</returns>
    /// <remarks>Pinned pages are not free for the asking: with too many, steps are refused.</remarks>
    public KvPrefixPin PinPrefix(KvSequenceOptions options, ReadOnlySpan<int> ids)
    {
        ArgumentNullException.ThrowIfNull(options);
        BlockHash root = NamespaceOf(options).ToHash();
        lock (Pool.Gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            int[] rows = Prefixes?.Pin(root, ids) ?? [];
            var pin = new KvPrefixPin(this, rows, rows.Length * Geometry.PageTokens);
            _pins.Add(pin);
            return pin;
        }
    }

    internal void Unpin(KvPrefixPin pin)
    {
        lock (Pool.Gate)
        {
            // Not there: taken back before, or with the cache.
            if (_pins.Remove(pin))
            {
                Prefixes?.Unpin(pin.Rows);
            }
        }
    }

    internal PrefixNamespace NamespaceOf(KvSequenceOptions options) => new()
    {
        ModelFingerprint = Settings.ModelFingerprint,
        Adapter = options.Adapter,
        Tenant = options.Tenant,
        Salt = options.Salt,
        KeyFormat = Settings.KeyFormat,
        ValueFormat = Settings.ValueFormat,
        LayerFormats = _layerFormats,
        RotationSeed = Settings.RotationSeed,
        PageTokens = Geometry.PageTokens,
    };

    // Owners that are forgotten get a new number, so that their old pages are zeroed once too often, never once too seldom.
    private int OwnerOf(string? tenant)
    {
        if (tenant is null)
        {
            return 1;
        }

        if (!_owners.TryGetValue(tenant, out int owner))
        {
            if (_owners.Count == MostOwnersKnown)
            {
                _owners.Clear();
            }

            _owners[tenant] = owner = checked(++_lastOwner);
        }

        return owner;
    }
}
