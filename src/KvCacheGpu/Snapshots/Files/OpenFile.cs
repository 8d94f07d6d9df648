namespace KvCacheGpu;

/// <summary>An open file or directory of a store; what it reads and writes is whole.</summary>
internal readonly struct OpenFile(IStoreFiles files, int descriptor) : IDisposable
{
    /// <summary>What <see cref="FlawOfDirectory"/> asks for.</summary>
    public const string OwnDirectory = "a directory of this user's to which only owner and group may write (chmod o-w)";

    private const int OthersWrite = 2;

    public IStoreFiles Files { get; } = files;

    public int Descriptor { get; } = descriptor;

    public long Length => Files.Length(Descriptor);

    public OpenFile Open(string name, FileUse use) => new(Files, Files.Open(Descriptor, name, use));

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

    /// <exception cref="KvCorruptionException">The file ends before.</exception>
    public void Read(Span<byte> bytes, long offset)
    {
        while (bytes.Length > 0)
        {
            int count = Files.Read(Descriptor, bytes, offset);
            if (count == 0)
            {
                throw new KvCorruptionException("a snapshot's file", $"{bytes.Length} more bytes", $"its end at {offset}");
            }

            bytes = bytes[count..];
            offset += count;
        }
    }

    public void Sync() => Files.Sync(Descriptor);

    /// <summary>Why what lies in this directory may be anyone's doing, or null.</summary>
    public string? FlawOfDirectory()
    {
        int mode = Files.Mode(Descriptor);
        return (mode & OthersWrite) != 0 ? $"mode {Convert.ToString(mode, 8)}" : Files.IsForeign(Descriptor) ? "one of another user" : null;
    }

    /// <summary>
    /// Puts a temporary file in the place of an entry of this directory. A rename may take effect and report an error (the answer of a file
    /// server is lost), so that an error is believed only once the temporary file was taken away: then it cannot come later either.
    /// </summary>
    /// <param name="temporary">The temporary file's name.</param>
    /// <param name="name">The entry.</param>
    /// <param name="written">What the temporary file holds.</param>
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

    /// <summary>Removes an entry of this directory; one that is not there is removed. As with <see cref="Replace"/>, an error alone says nothing.</summary>
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

    public void Dispose() => Files.Close(Descriptor);
}
