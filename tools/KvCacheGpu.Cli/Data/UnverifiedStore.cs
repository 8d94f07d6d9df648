namespace KvCacheGpu.Cli;

/// <summary>
/// A store beside another one that holds a conversion until it is verified: <c>STORE.unverified-ID</c>. Disposing removes it. Every process holds the file
/// WRITER in its own. If no process holds it, its process has died, and the next conversion removes it.
/// </summary>
internal sealed class UnverifiedStore : IDisposable
{
    private const string Mark = ".unverified-";
    private const string Writer = "WRITER";

    private readonly string _folder;
    private readonly FileStream _held;

    private UnverifiedStore(string folder, FileStream held) => (_folder, _held) = (folder, held);

    /// <summary>The store's directory.</summary>
    public string StorePath => Path.Combine(_folder, "store");

    /// <summary>Makes one beside a store, after removing those of dead processes.</summary>
    /// <param name="store">The store's directory, which need not exist.</param>
    public static UnverifiedStore Make(string store)
    {
        Sweep(store);
        while (true)
        {
            string folder = Beside(store) + Guid.NewGuid().ToString("n");
            Directory.CreateDirectory(folder);
            if (Hold(folder) is { } held)
            {
                return new UnverifiedStore(folder, held);
            }
        }
    }

    /// <summary>Removes the unverified stores that dead processes left beside a store.</summary>
    public static void Sweep(string store)
    {
        string beside = Beside(store);
        if (Path.GetDirectoryName(beside) is not { } parent || !Directory.Exists(parent))
        {
            return;
        }

        foreach (string folder in Directory.EnumerateDirectories(parent).Where(one => one.StartsWith(beside, StringComparison.Ordinal)))
        {
            if (Guid.TryParseExact(folder[beside.Length..], "n", out _) && !File.GetAttributes(folder).HasFlag(FileAttributes.ReparsePoint) && Hold(folder) is { } held)
            {
                using (held)
                {
                    Remove(folder);
                }
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Remove(_folder);
        _held.Dispose();
    }

    private static string Beside(string store) => Path.TrimEndingDirectorySeparator(Path.GetFullPath(store)) + Mark;

    // Null if another process holds it, or has removed the folder in the meantime.
    private static FileStream? Hold(string folder)
    {
        try
        {
            return new FileStream(Path.Combine(folder, Writer), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static void Remove(string folder)
    {
        try
        {
            Directory.Delete(folder, recursive: true);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // It stays; the next conversion beside this store tries again.
        }
    }
}
