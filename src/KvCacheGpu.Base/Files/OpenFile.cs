namespace KvCacheGpu;

/// <summary>An open file or directory. Unlike the calls behind it, it reads and writes all the bytes that are asked for, or throws.</summary>
/// <remarks>Thread safety: it is used and disposed by one thread at a time.</remarks>
/// <param name="files">The file system.</param>
/// <param name="descriptor">The descriptor, which disposing closes.</param>
public readonly struct OpenFile(IStoreFiles files, int descriptor) : IDisposable
{
    /// <summary>The kind of directory in which <see cref="FlawOfDirectory"/> finds no flaw, in words for an error.</summary>
    public const string OwnDirectory = "a directory of this user's to which only owner and group may write (chmod o-w)";

    private const int OthersWrite = 2;

    /// <summary>The file system.</summary>
    public IStoreFiles Files { get; } = files;

    /// <summary>The descriptor.</summary>
    public int Descriptor { get; } = descriptor;

    /// <summary>Bytes of the file.</summary>
    public long Length => Files.Length(Descriptor);

    /// <summary>Opens a file in this directory.</summary>
    public OpenFile Open(string name, FileUse use) => new(Files, Files.Open(Descriptor, name, use));

    /// <summary>Writes all the bytes, from an offset on.</summary>
    public void Write(ReadOnlySpan<byte> bytes, long offset)
    {
        while (bytes.Length > 0)
        {
            int count = Files.Write(Descriptor, bytes, offset);
            if (count == 0)
            {
                throw new FileCallException("write", $"at {offset}", FileCallException.NoSpace);
            }

            bytes = bytes[count..];
            offset += count;
        }
    }

    /// <summary>Fills <paramref name="bytes"/> from an offset on.</summary>
    /// <exception cref="KvCorruptionException">The file ends before.</exception>
    public void Read(Span<byte> bytes, long offset)
    {
        while (bytes.Length > 0)
        {
            int count = Files.Read(Descriptor, bytes, offset);
            if (count == 0)
            {
                throw new KvCorruptionException("a file", $"{bytes.Length} more bytes", $"its end at {offset}");
            }

            bytes = bytes[count..];
            offset += count;
        }
    }

    /// <summary>Makes the file's bytes, or the directory's entries, survive a power loss.</summary>
    public void Sync() => Files.Sync(Descriptor);

    /// <summary>Says why another user may have put into this directory what lies there; null if none can.</summary>
    public string? FlawOfDirectory()
    {
        int mode = Files.Mode(Descriptor);
        return (mode & OthersWrite) != 0 ? $"mode {Convert.ToString(mode, 8)}" : Files.IsForeign(Descriptor) ? "one of another user" : null;
    }

    /// <summary>
    /// Puts a temporary file in the place of an entry of this directory. A rename may take effect and report an error (the answer of a file
    /// server is lost). So an error counts only after the temporary file was taken away: then the rename cannot take effect later either.
    /// </summary>
    /// <param name="temporary">The temporary file's name.</param>
    /// <param name="name">The entry.</param>
    /// <param name="written">The bytes that the temporary file holds.</param>
    /// <exception cref="FileCallException">The entry is as it was, unless <see cref="FileCallException.OutcomeUnknown"/>.</exception>
    public void Replace(string temporary, string name, ReadOnlySpan<byte> written)
    {
        try
        {
            Files.Rename(Descriptor, temporary, name);
        }
        catch (FileCallException error)
        {
            bool? isMoved = IsGone(temporary, unlink: true);
            if (isMoved == false)
            {
                throw;
            }

            if (isMoved is null || !Holds(name, written))
            {
                throw error.WithUnknownOutcome();
            }
        }
    }

    /// <summary>Removes an entry of this directory; one that is not there counts as removed. As with <see cref="Replace"/>, an error alone says nothing.</summary>
    /// <exception cref="FileCallException">The entry is there, unless <see cref="FileCallException.OutcomeUnknown"/>.</exception>
    public void Remove(string name)
    {
        try
        {
            Files.Unlink(Descriptor, name);
        }
        catch (FileCallException error)
        {
            switch (IsGone(name, unlink: false))
            {
                case false:
                    throw;
                case null:
                    throw error.WithUnknownOutcome();
                default:
                    break;
            }
        }
    }

    // Null where that cannot be found out.
    private bool? IsGone(string name, bool unlink)
    {
        try
        {
            if (unlink)
            {
                Files.Unlink(Descriptor, name);
            }
            else
            {
                Open(name, FileUse.Read).Dispose();
            }

            return false;
        }
        catch (FileCallException error)
        {
            return error.Error == FileCallException.NoEntry ? true : null;
        }
    }

    private bool Holds(string name, ReadOnlySpan<byte> written)
    {
        try
        {
            using OpenFile file = Open(name, FileUse.Read);
            byte[] found = new byte[written.Length];
            file.Read(found, 0);
            return file.Length == written.Length && found.AsSpan().SequenceEqual(written);
        }
        catch (Exception error) when (error is FileCallException or KvCorruptionException)
        {
            return false;
        }
    }

    /// <summary>Closes it.</summary>
    public void Dispose() => Files.Close(Descriptor);
}
