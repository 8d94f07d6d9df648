namespace KvCacheGpu;

/// <summary>The files under a snapshot's name: the generation that CURRENT names, and all the others.</summary>
internal sealed class StorePast
{
    private readonly StoreFolder _folder;
    private readonly StoreNames _names;
    private readonly StoreListing _listing;
    private readonly CurrentFile? _current;

    /// <exception cref="KvNewerVersionException">CURRENT, or the manifest it names, is of a later version.</exception>
    public StorePast(StoreFolder folder, StoreNames names)
    {
        (_folder, _names) = (folder, names);
        try
        {
            _current = folder.ReadCurrent(names);
        }
        catch (KvCorruptionException error)
        {
            Flaw = error;
        }
        catch (FileCallException error) when (error.IsOfTheFile)
        {
            Flaw = new KvCorruptionException(names.Current, "a file that can be read", error.Message, error);
        }

        // Listed after CURRENT was read: what it names, and was not deleted since, is in the list.
        _listing = folder.List(names);
    }

    /// <summary>The error in CURRENT; null if it is whole or not there.</summary>
    public KvCorruptionException? Flaw { get; }

    /// <summary>True if CURRENT is there, whole or not.</summary>
    public bool HasCurrent => _current is not null || Flaw is not null;

    /// <summary>True if there is no snapshot. Files without CURRENT are none: they were never committed, or were deleted.</summary>
    public bool IsEmpty => !HasCurrent;

    /// <summary>Generations to load, the best first.</summary>
    public IEnumerable<long> Candidates => _current is { } current
        ? _listing.Generations.Where(generation => generation < current.Generation).Prepend(current.Generation)
        : _listing.Generations;

    /// <summary>The hash that a generation's manifest must have; null if it is not known.</summary>
    public UInt128? HashOf(long generation) => _current is { } current && current.Generation == generation ? current.ManifestHash : null;

    public bool IsCurrent(long generation) => _current is { } current && current.Generation == generation;

    /// <summary>Returns true if a writer has been here since.</summary>
    public bool HasChanged()
    {
        try
        {
            return _folder.ReadCurrent(_names) != _current;
        }
        catch (KvCorruptionException)
        {
            return false;
        }
    }

    /// <summary>Files that writers left which died. None if CURRENT is damaged: it cannot say which generations were committed.</summary>
    public IEnumerable<string> Leftovers()
    {
        IEnumerable<string> never = Flaw is null
            ? _listing.All.Where(file => file.Generation > (_current?.Generation ?? 0)).Select(file => file.Name)
            : [];
        return _listing.Temporaries.Concat(never);
    }

    /// <summary>
    /// The number after the newest generation, whatever other files claim: a file that someone put here, or that could not be swept, bears any number. One
    /// that such a file bears is passed over. After the last number of all they begin again.
    /// </summary>
    /// <exception cref="KvNewerVersionException">A manifest is of a later version: what it means is unknown, and stays untouched.</exception>
    public long NextGeneration()
    {
        long[] whole = [.. _listing.Generations.Where(IsWhole)];
        long next = _current?.Generation ?? whole.FirstOrDefault();
        HashSet<long> taken = [.. _folder.List(_names).All.Select(file => file.Generation)];
        do
        {
            next = next == long.MaxValue ? 1 : next + 1;
        }
        while (taken.Contains(next));

        return next;
    }

    /// <summary>All generations' files that were there.</summary>
    public IEnumerable<string> Everything() => _listing.All.Select(file => file.Name);

    /// <summary>After a commit: all files that were there, except those of the newest generation that is whole. Files that a dead writer left may have borne the new one's number.</summary>
    public IEnumerable<string> Expired(long committed)
    {
        long kept = Candidates.FirstOrDefault(generation => generation != committed && IsWhole(generation));
        return _listing.All.Where(file => file.Generation != kept && file.Generation != committed).Select(file => file.Name);
    }

    // As far as can be said without a key, and without reading all pages.
    private bool IsWhole(long generation)
    {
        try
        {
            string name = _names.Manifest(generation);
            byte[] manifest = _folder.ReadWhole(name, SnapshotLimits.ManifestBytes);
            FileHeader header = FileHeader.Read(manifest, manifest.Length, FileKind.Manifest, name);
            SelfHash.Verified(manifest, header, name);
            using OpenFile blocks = _folder.Directory.Open(_names.Blocks(generation), FileUse.Read);
            FileHeader.ThrowIfBlocksDiffer(blocks, header, _names.Blocks(generation));
            return true;
        }
        catch (Exception error) when (error is KvCorruptionException or FileCallException)
        {
            return false;
        }
    }
}
