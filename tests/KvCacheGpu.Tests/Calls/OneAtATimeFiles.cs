using KvCacheGpu.TestKit;

namespace KvCacheGpu.Tests;

/// <summary>A disk in memory that several threads may use.</summary>
internal sealed class OneAtATimeFiles : IStoreFiles
{
    private readonly FaultFiles _files = new(new MemoryDisk());
    private readonly Lock _gate = new();

    public int OpenDirectory(string path) => Do(() => _files.OpenDirectory(path));

    public void MakeDirectory(string path) => Do(() => _files.MakeDirectory(path));

    public int Open(int directory, string name, FileUse use) => Do(() => _files.Open(directory, name, use));

    public IReadOnlyList<string> List(int directory) => Do(() => _files.List(directory).ToArray());

    public int Read(int file, Span<byte> bytes, long offset)
    {
        lock (_gate)
        {
            return _files.Read(file, bytes, offset);
        }
    }

    public int Write(int file, ReadOnlySpan<byte> bytes, long offset)
    {
        lock (_gate)
        {
            return _files.Write(file, bytes, offset);
        }
    }

    public long Length(int file) => Do(() => _files.Length(file));

    public int Mode(int file) => Do(() => _files.Mode(file));

    public bool IsForeign(int file) => Do(() => _files.IsForeign(file));

    public void SetMode(int file, int mode) => Do(() => _files.SetMode(file, mode));

    public FileOwner Owner(int file) => Do(() => _files.Owner(file));

    public void SetOwner(int file, FileOwner owner) => Do(() => _files.SetOwner(file, owner));

    public void Sync(int file) => Do(() => _files.Sync(file));

    public void Rename(int directory, string from, string to) => Do(() => _files.Rename(directory, from, to));

    public void Unlink(int directory, string name) => Do(() => _files.Unlink(directory, name));

    public bool TryLock(int file) => Do(() => _files.TryLock(file));

    public void Close(int file) => Do(() => _files.Close(file));

    private T Do<T>(Func<T> call)
    {
        lock (_gate)
        {
            return call();
        }
    }

    private void Do(Action call)
    {
        lock (_gate)
        {
            call();
        }
    }
}
