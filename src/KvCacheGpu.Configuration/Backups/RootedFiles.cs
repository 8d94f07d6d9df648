namespace KvCacheGpu.Configuration;

/// <summary>
/// Files beneath one directory, by relative paths with '/'. No path leads out of it, none through a symlink; what is written is there whole
/// or not at all.
/// </summary>
internal sealed class RootedFiles(IStoreFiles files, string root)
{
    private const string Temporary = ".kvcache-tmp";

    public string Root => root;

    /// <summary>Reads a file; null where there is none.</summary>
    /// <exception cref="KvPersistenceException">It cannot be read, or lies behind a symlink (E005).</exception>
    /// <exception cref="KvCorruptionException">It is too long, or reads differently twice (E004).</exception>
    public FileImage? Read(string path, int most) => Guarded(path, () =>
    {
        try
        {
            using OpenFile folder = OpenFolder(path, make: false, out string name);
            using OpenFile file = folder.Open(name, FileUse.Read);
            // Nothing says what the bytes of a user's file should be: a disk that bends one must not pass for an edit.
            byte[] bytes = ReadWhole(file, path, most), again = ReadWhole(file, path, most);
            return bytes.AsSpan().SequenceEqual(again)
                ? new FileImage(bytes, files.Mode(file.Descriptor))
                : throw new KvCorruptionException(path, "the same bytes when read twice", "others");
        }
        catch (FileCallException error) when (error.Error == FileCallException.NoEntry)
        {
            return null;
        }
    });

    /// <summary>Puts a file in the place of another, in one step that survives a power loss. It stays its owner's, where this process may give it away.</summary>
    /// <exception cref="KvPersistenceException">The old file is there (E005), unless the outcome is unknown: then it is the old or the new one, whole.</exception>
    public void Replace(string path, FileImage image) => Guarded(path, () =>
    {
        using OpenFile folder = OpenFolder(path, make: true, out string name);
        string temporary = name + Temporary;
        try
        {
            using OpenFile file = Create(folder, temporary);
            file.Write(image.Bytes, 0);
            if (OwnerOf(folder, name) is { } owner && owner != files.Owner(file.Descriptor))
            {
                files.SetOwner(file.Descriptor, owner);
            }

            // Behind the owner: a change of it takes permissions away.
            files.SetMode(file.Descriptor, image.Mode);
            file.Sync();
            if (!ReadWhole(file, path, image.Bytes.Length).AsSpan().SequenceEqual(image.Bytes))
            {
                throw new KvPersistenceException($"file {path}, read again", "the bytes just written", "others");
            }

            folder.Replace(temporary, name, image.Bytes);
        }
        catch
        {
            Sweep(folder, temporary);
            throw;
        }

        SyncLast(folder);
        return 0;
    });

    /// <summary>Removes a file, if there is one.</summary>
    /// <exception cref="KvPersistenceException">The file is there (E005), unless the outcome is unknown.</exception>
    public void Remove(string path) => Guarded(path, () =>
    {
        OpenFile folder;
        string name;
        try
        {
            folder = OpenFolder(path, make: false, out name);
        }
        catch (FileCallException error) when (error.Error == FileCallException.NoEntry)
        {
            return 0;
        }

        using (folder)
        {
            // One that is not there may have been removed by someone who could not sync that.
            folder.Remove(name);
            SyncLast(folder);
        }

        return 0;
    });

    /// <summary>Names in a folder, sorted; none where there is no folder.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="withTemporaries">True to list also those that are being written, or were left so. The default value is false.</param>
    public IReadOnlyList<string> List(string folder, bool withTemporaries = false) => Guarded(folder, () =>
    {
        try
        {
            using OpenFile opened = OpenFolder(folder + "/-", make: false, out _);
            return files.List(opened.Descriptor).Where(name => withTemporaries || !name.EndsWith(Temporary, StringComparison.Ordinal)).Order(StringComparer.Ordinal).ToArray();
        }
        catch (FileCallException error) when (error.Error == FileCallException.NoEntry)
        {
            return [];
        }
    });

    /// <summary>Removes what writers that died left half written: beside some files, and anywhere in some folders. Under the lock nobody writes them.</summary>
    public void Sweep(IReadOnlyList<string> paths, IReadOnlyList<string> folders)
    {
        foreach (string path in paths.Concat(folders.Select(folder => $"{folder}/-")))
        {
            try
            {
                using OpenFile folder = OpenFolder(path, make: false, out string name);
                foreach (string left in files.List(folder.Descriptor).Where(one => name == "-" ? one.EndsWith(Temporary, StringComparison.Ordinal) : one == name + Temporary))
                {
                    Sweep(folder, left);
                }
            }
            catch (FileCallException)
            {
                // There is no such folder, or what is wrong with it is said by whoever needs it.
            }
        }
    }

    /// <summary>Takes the writer's place until disposed.</summary>
    /// <exception cref="KvStoreBusyException">Another has it (E006).</exception>
    public IDisposable Lock(string path) => Guarded<IDisposable>(path, () =>
    {
        using OpenFile folder = OpenFolder(path, make: true, out string name);
        OpenFile file = folder.Open(name, FileUse.Lock);
        try
        {
            return files.TryLock(file.Descriptor)
                ? file
                : throw new KvStoreBusyException($"{root}/{path}", "no other migration, backup or rollback here", "one that runs");
        }
        catch
        {
            file.Dispose();
            throw;
        }
    });

    /// <summary>What is wrong with a path, or null.</summary>
    public static string? FlawOf(string path) =>
        path.Length == 0 || path.Contains('\0', StringComparison.Ordinal) || path.Contains('\\', StringComparison.Ordinal)
            || KvText.Flaw(path) is not null || path.Split('/').Any(part => part is "" or "." or "..")
            ? "a path that leads elsewhere"
            : null;

    private OpenFile OpenFolder(string path, bool make, out string name)
    {
        if (FlawOf(path) is { } flaw)
        {
            throw new KvPersistenceException($"'{path}'", $"a path beneath {root}", flaw);
        }

        string[] parts = path.Split('/');
        name = parts[^1];
        string at = root;
        var folder = new OpenFile(files, files.OpenDirectory(at));
        foreach (string part in parts[..^1])
        {
            string next = at == "/" ? "/" + part : $"{at}/{part}";
            try
            {
                OpenFile inner = OpenOrMake(folder, next, make);
                folder.Dispose();
                (folder, at) = (inner, next);
                if (parts[0] == StateFolder.Name && folder.FlawOfDirectory() is { } open)
                {
                    // A journal that someone else wrote would be carried out.
                    throw new KvConfigurationException($"folder {at}", OpenFile.OwnDirectory, open);
                }
            }
            catch
            {
                folder.Dispose();
                throw;
            }
        }

        return folder;
    }

    // Opened one below the other, so that a symlink at any place is met as the last part of a path, where it is refused.
    private OpenFile OpenOrMake(OpenFile parent, string path, bool make)
    {
        try
        {
            return new OpenFile(files, files.OpenDirectory(path));
        }
        catch (FileCallException error) when (make && error.Error == FileCallException.NoEntry)
        {
            Make(path);
            parent.Sync();
            return new OpenFile(files, files.OpenDirectory(path));
        }
    }

    private FileOwner? OwnerOf(OpenFile folder, string name)
    {
        try
        {
            using OpenFile file = folder.Open(name, FileUse.Read);
            return files.Owner(file.Descriptor);
        }
        catch (FileCallException error) when (error.Error == FileCallException.NoEntry)
        {
            return null;
        }
    }

    private void Make(string path)
    {
        try
        {
            files.MakeDirectory(path);
        }
        catch (FileCallException error) when (error.Error != FileCallException.NoEntry)
        {
            // Made meanwhile, or made and the answer was lost: opening it says so, and why not where it is not there.
        }
    }

    private static void SyncLast(OpenFile folder)
    {
        try
        {
            folder.Sync();
        }
        catch (FileCallException error)
        {
            throw error.WithUnknownOutcome();
        }
    }

    private static OpenFile Create(OpenFile folder, string name)
    {
        try
        {
            return folder.Open(name, FileUse.Create);
        }
        catch (FileCallException error) when (error.Error == FileCallException.Exists)
        {
            // Left by a writer that died: under the lock nobody writes it.
            folder.Files.Unlink(folder.Descriptor, name);
            return folder.Open(name, FileUse.Create);
        }
    }

    private static byte[] ReadWhole(OpenFile file, string path, int most)
    {
        long length = file.Length;
        if (length > most)
        {
            throw new KvCorruptionException(path, $"at most {most} bytes", $"{length}");
        }

        byte[] bytes = new byte[length];
        file.Read(bytes, 0);
        return bytes;
    }

    private static void Sweep(OpenFile folder, string name)
    {
        try
        {
            folder.Files.Unlink(folder.Descriptor, name);
        }
        catch (FileCallException)
        {
            // It stays; whoever takes the lock next removes it.
        }
    }

    private T Guarded<T>(string path, Func<T> work)
    {
        try
        {
            return work();
        }
        catch (FileCallException error)
        {
            throw new KvPersistenceException($"{root}/{path}", "a disk that takes and gives it", error.Message, error, error.OutcomeUnknown);
        }
    }
}
