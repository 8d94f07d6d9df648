namespace KvCacheGpu;

/// <content>Loading, and asking what is there.</content>
public sealed partial class SnapshotStore
{
    // Each time a writer has replaced what was being opened; it needs two commits for one disappointment.
    private const int Attempts = 16;

    /// <summary>Returns true if a file that begins with these bytes is one of a snapshot.</summary>
    /// <param name="firstBytes">Its first 8 bytes, or more.</param>
    public static bool Recognises(ReadOnlySpan<byte> firstBytes) => firstBytes.StartsWith(FileHeader.Magic);

    /// <summary>
    /// Loads a snapshot into a target: its description, its pages in order, each verified, and at last
    /// <see cref="ISnapshotTarget.Complete"/>. Where a generation proves bad on the way, the target abandons it and the one before begins.
    /// </summary>
    /// <returns>What was loaded; its <see cref="SnapshotInfo.Notice"/> says so where it is not the newest.</returns>
    /// <exception cref="KvSnapshotNotFoundException">There is none (E002).</exception>
    /// <exception cref="KvCorruptionException">No generation is whole (E004).</exception>
    /// <exception cref="KvNewerVersionException">A later version of this library saved it (E007); it is untouched.</exception>
    /// <exception cref="KvConfigurationException">It is encrypted and the store has no key, or the other way round (E003).</exception>
    public Task<SnapshotInfo> LoadAsync(
        SnapshotName name, ISnapshotTarget target, IProgress<SnapshotProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(target);
        name.Check();
        return Task.Run(() => Load(name, target, progress, cancellationToken), cancellationToken);
    }

    /// <summary>Opens a snapshot of which every byte was verified, to read its pages in any order. Dispose it.</summary>
    /// <exception cref="KvSnapshotNotFoundException">There is none (E002).</exception>
    /// <exception cref="KvCorruptionException">No generation is whole (E004).</exception>
    /// <exception cref="KvNewerVersionException">A later version of this library saved it (E007); it is untouched.</exception>
    public Task<OpenSnapshot> OpenAsync(
        SnapshotName name, IProgress<SnapshotProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        name.Check();
        return Task.Run(() => Open(name, true, progress, cancellationToken), cancellationToken);
    }

    /// <summary>As <see cref="OpenAsync"/>, without reading the pages first: each is verified when it is read.</summary>
    public Task<OpenSnapshot> InspectAsync(SnapshotName name, CancellationToken cancellationToken = default)
    {
        name.Check();
        return Task.Run(() => Open(name, false, null, cancellationToken), cancellationToken);
    }

    internal SnapshotInfo Load(SnapshotName name, ISnapshotTarget target, IProgress<SnapshotProgress>? progress, CancellationToken cancel) =>
        Load(name, (reader, _) =>
        {
            target.Begin(reader.Content);
            try
            {
                reader.ReadPages(target.Write, progress, cancel);
                target.Complete();
            }
            catch
            {
                target.Abandon();
                throw;
            }
        }, cancel);

    /// <summary>Shows the newest generation that <paramref name="take"/> gets through to it; after an exception it leaves no trace.</summary>
    internal SnapshotInfo Load(SnapshotName name, Action<GenerationReader, SnapshotInfo> take, CancellationToken cancel) =>
        Newest(NamesOf(name), $"{name}", Taking(take), cancel);

    /// <summary>The same by the snapshot that a file belongs to.</summary>
    internal SnapshotInfo Load(StoreNames names, Action<GenerationReader, SnapshotInfo> take, CancellationToken cancel) =>
        Newest(names, names.Hash, Taking(take), cancel);

    internal OpenSnapshot Open(SnapshotName name, bool verify, IProgress<SnapshotProgress>? progress, CancellationToken cancel) =>
        Newest(NamesOf(name), $"{name}", (names, reader, notice) =>
        {
            try
            {
                if (verify)
                {
                    reader.ReadPages((_, _) => { }, progress, cancel);
                }

                return new OpenSnapshot(InfoOf(names, reader.Manifest, notice), reader);
            }
            catch
            {
                reader.Dispose();
                throw;
            }
        }, cancel);

    private static StoreNames NamesOf(SnapshotName name) => new(Convert.ToHexStringLower(name.ToHash()));

    private static Func<StoreNames, GenerationReader, string?, SnapshotInfo> Taking(Action<GenerationReader, SnapshotInfo> take) => (names, reader, notice) =>
    {
        using (reader)
        {
            SnapshotInfo info = InfoOf(names, reader.Manifest, notice);
            take(reader, info);
            return info;
        }
    };

    /// <summary>Gives the newest generation that <paramref name="use"/> gets through, with what was wrong before it; it disposes the reader.</summary>
    private T Newest<T>(StoreNames names, string name, Func<StoreNames, GenerationReader, string?, T> use, CancellationToken cancel) => Guarded(() =>
    {
        using StoreFolder folder = StoreFolder.Open(_files, StorePath, _options.AcceptsSharedDirectory);
        for (int attempt = 1; ; attempt++)
        {
            var past = new StorePast(folder, names);
            if (past.IsEmpty)
            {
                throw NotFound(name);
            }

            KvCorruptionException? first = past.Flaw;
            foreach (long generation in past.Candidates)
            {
                try
                {
                    GenerationReader reader = GenerationReader.Open(folder, names, generation, past.HashOf(generation), _options, cancel);
                    return use(names, reader, first is null ? null : $"generation {generation}, because {first.Message}");
                }
                catch (KvCorruptionException error)
                {
                    first ??= error;
                }
                catch (FileCallException error) when (error.IsOfTheFile)
                {
                    first ??= new KvCorruptionException($"generation {generation} of '{name}'", "files that can be read", error.Message, error);
                }
            }

            if (attempt == Attempts || !past.HasChanged())
            {
                throw first ?? new KvCorruptionException($"snapshot '{name}'", "a generation", "none");
            }
        }
    });
}
