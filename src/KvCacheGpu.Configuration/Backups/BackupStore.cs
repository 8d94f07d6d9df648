using System.Globalization;

namespace KvCacheGpu.Configuration;

/// <summary>The backups of a root: each one file, so that it is there whole or not at all.</summary>
internal sealed class BackupStore(RootedFiles files, TimeProvider clock, int keep)
{
    /// <summary>Backups made for an upgrade stay for its rollback, however many come after.</summary>
    public const string ForUpgrade = "before an upgrade";

    private const string Kind = "backup";
    private const string Suffix = ".backup";

    /// <summary>A name that no backup and no run has.</summary>
    public string NewId()
    {
        string[] taken = [.. files.List(StateFolder.Backups), .. files.List(StateFolder.Runs)];
        string stamp = clock.GetUtcNow().ToString("yyyyMMdd-HHmmss-fff", CultureInfo.InvariantCulture);
        string id = stamp;
        for (int count = 2; taken.Any(name => Path.GetFileNameWithoutExtension(name) == id); count++)
        {
            id = string.Create(CultureInfo.InvariantCulture, $"{stamp}-{count}");
        }

        return id;
    }

    public KvConfigBackup Save(string id, string version, string reason, IReadOnlyList<(string Path, FileImage Image)> saved)
    {
        var document = new Document(
            id,
            clock.GetUtcNow(),
            version,
            reason,
            [.. saved.Select(file => new Entry(file.Path, Convert.ToString(file.Image.Mode, 8), SealedText.Hash(file.Image.Bytes), file.Image.Bytes))]);
        files.Replace(PathOf(id), SealedText.Write(Kind, document, SealedJson.Default.Backup));
        Retire();
        return Listed(document);
    }

    /// <summary>The newest first; what cannot be read is listed with its flaw.</summary>
    public IReadOnlyList<KvConfigBackup> List() =>
    [
        .. files.List(StateFolder.Backups)
            .Where(name => name.EndsWith(Suffix, StringComparison.Ordinal))
            .Select(name => Look(name[..^Suffix.Length]))
            .OrderByDescending(backup => backup.Created).ThenByDescending(backup => backup.Id.Length).ThenByDescending(backup => backup.Id, StringComparer.Ordinal),
    ];

    /// <summary>A backup's files, every hash verified, every path beneath the root.</summary>
    /// <exception cref="KvSnapshotNotFoundException">There is none of that name (E002).</exception>
    /// <exception cref="KvCorruptionException">It was altered (E004).</exception>
    public IReadOnlyList<(string Path, FileImage Image)> Load(string id) =>
        [.. Read(id).Files.Select(entry => (entry.Path, new FileImage(entry.Bytes, Convert.ToInt32(entry.Mode, 8))))];

    private KvConfigBackup Look(string id)
    {
        try
        {
            return Listed(Read(id));
        }
        catch (KvCacheException error) when (error is KvCorruptionException or KvNewerVersionException)
        {
            return new KvConfigBackup(id, TimeOf(id), "unknown", [], "unknown", error.Message);
        }
    }

    private Document Read(string id)
    {
        FileImage? image = RootedFiles.FlawOf(id) is null && !id.Contains('/', StringComparison.Ordinal) ? files.Read(PathOf(id), SealedText.MostBytes) : null;
        if (image is null)
        {
            throw new KvSnapshotNotFoundException("backup", "the id of a backup; kvcache config backups lists them", $"'{id}'");
        }

        Document document = SealedText.Read(Kind, PathOf(id), image, SealedJson.Default.Backup);
        if (document.Id != id)
        {
            throw new KvCorruptionException(PathOf(id), $"backup {id}", $"backup {document.Id}");
        }

        foreach (Entry entry in document.Files)
        {
            bool isModeRight = entry.Mode is { Length: >= 1 and <= 4 } && entry.Mode.All(digit => digit is >= '0' and <= '7');
            if (RootedFiles.FlawOf(entry.Path) is not null || entry.Path.Split('/')[0] == StateFolder.Name || !isModeRight)
            {
                throw new KvCorruptionException(PathOf(id), "paths beneath the root, and permission bits", $"'{entry.Path}', {entry.Mode}");
            }

            string hash = SealedText.Hash(entry.Bytes);
            if (hash != entry.Sha256)
            {
                throw new KvCorruptionException($"{PathOf(id)}, {entry.Path}", $"SHA-256 {entry.Sha256}", hash);
            }
        }

        return document;
    }

    private void Retire()
    {
        foreach (KvConfigBackup old in List().Where(backup => backup.Flaw is null && backup.Reason != ForUpgrade).Skip(keep))
        {
            try
            {
                files.Remove(PathOf(old.Id));
            }
            catch (KvPersistenceException)
            {
                // The backup asked for is there; the old one goes when the next is made.
            }
        }
    }

    private static KvConfigBackup Listed(Document d) => new(d.Id, d.Created, d.Version, [.. d.Files.Select(file => file.Path)], d.Reason);

    private static DateTimeOffset TimeOf(string id) =>
        id.Length >= 19 && DateTimeOffset.TryParseExact(
            id[..19], "yyyyMMdd-HHmmss-fff", CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out DateTimeOffset time)
            ? time
            : DateTimeOffset.MinValue;

    private static string PathOf(string id) => $"{StateFolder.Backups}/{id}{Suffix}";

    internal sealed record Document(string Id, DateTimeOffset Created, string Version, string Reason, IReadOnlyList<Entry> Files);

    internal sealed record Entry(string Path, string Mode, string Sha256, byte[] Bytes);
}
