namespace KvCacheGpu.Configuration;

/// <summary>Changes several files at once: all of them, or none, wherever it is interrupted. Under the folder's lock.</summary>
/// <remarks>
/// <code>
/// JOURNAL: every file's bytes before and after | each file | JOURNAL removed: done
/// A failure meanwhile puts the bytes before back. Where that fails too, or the process dies, the journal stays, and whoever comes next
/// completes what it says.
/// </code>
/// </remarks>
internal sealed class ChangeJournal(RootedFiles files)
{
    private const string Kind = "journal";

    /// <summary>True if a change was interrupted.</summary>
    public bool IsOpen => files.List(StateFolder.Name).Contains(StateFolder.JournalName);

    public void Apply(IReadOnlyList<FileChange> changes)
    {
        FileChange[] real = [.. changes.Where(change => change.Before != change.After)];
        if (real.Length == 0)
        {
            return;
        }

        try
        {
            files.Replace(StateFolder.Journal, SealedText.Write(Kind, new Entry([.. real]), SealedJson.Default.Journal));
            foreach (FileChange change in real)
            {
                Put(change.Path, change.After);
            }
        }
        catch (KvCacheException error)
        {
            Undo(real, error);
            if (error is KvPersistenceException { OutcomeUnknown: true })
            {
                // What was not known of one file is known now that all are as before.
                throw new KvPersistenceException("change of the configuration, which is undone", error.Expected, error.Actual, error);
            }

            throw;
        }

        Close("the files are changed");
    }

    /// <summary>Completes a change that was interrupted.</summary>
    /// <exception cref="KvCorruptionException">A file is neither as before nor as after: someone changed it since; or the journal is damaged (E004).</exception>
    public void Recover()
    {
        if (files.Read(StateFolder.Journal, SealedText.MostBytes) is not { } image)
        {
            return;
        }

        Entry entry = Read(image);
        foreach (FileChange change in entry.Changes)
        {
            FileImage? now = files.Read(change.Path, SealedText.MostBytes);
            if (!Same(now, change.Before) && !Same(now, change.After))
            {
                throw new KvCorruptionException(
                    $"{files.Root}/{change.Path}, half way through a change",
                    $"its bytes before or after (restore a backup of it by hand, or remove {StateFolder.Journal} to keep what is there)",
                    "others");
            }
        }

        foreach (FileChange change in entry.Changes)
        {
            Put(change.Path, change.After);
        }

        Close("the files are changed");
    }

    private Entry Read(FileImage image)
    {
        try
        {
            return SealedText.Read(Kind, StateFolder.Journal, image, SealedJson.Default.Journal);
        }
        catch (KvCorruptionException error)
        {
            throw new KvCorruptionException(
                $"{files.Root}/{StateFolder.Journal}",
                $"{error.Expected} (remove it: each file is whole, as before the change that was interrupted or as after; kvcache config restore puts a backup back)",
                error.Actual,
                error);
        }
    }

    private void Undo(FileChange[] changes, KvCacheException error)
    {
        try
        {
            foreach (FileChange change in changes)
            {
                Put(change.Path, change.Before);
            }

            files.Remove(StateFolder.Journal);
        }
        catch (KvCacheException)
        {
            throw new KvPersistenceException(
                "change of the configuration", "a disk that works; the next kvcache config, migrate or rollback completes it", error.Message, error, outcomeUnknown: true);
        }
    }

    private void Close(string state)
    {
        try
        {
            files.Remove(StateFolder.Journal);
        }
        catch (KvPersistenceException error)
        {
            throw new KvPersistenceException($"{state}, their journal", "its removal", error.Actual, error, outcomeUnknown: true);
        }
    }

    private void Put(string path, FileImage? image)
    {
        if (Same(files.Read(path, SealedText.MostBytes), image))
        {
            return;
        }

        if (image is null)
        {
            files.Remove(path);
        }
        else
        {
            files.Replace(path, image);
        }
    }

    private static bool Same(FileImage? one, FileImage? other) => one is null ? other is null : one.Equals(other);

    internal sealed record Entry(IReadOnlyList<FileChange> Changes);
}
