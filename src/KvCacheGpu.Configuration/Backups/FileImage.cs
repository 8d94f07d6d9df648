namespace KvCacheGpu.Configuration;

/// <summary>A file's bytes and permission bits.</summary>
internal sealed record FileImage(byte[] Bytes, int Mode)
{
    public bool Equals(FileImage? other) => other is not null && Mode == other.Mode && Bytes.AsSpan().SequenceEqual(other.Bytes);

    public override int GetHashCode() => HashCode.Combine(Bytes.Length, Mode);
}

/// <summary>A file as it was and as it is to be; null where it is not there.</summary>
internal sealed record FileChange(string Path, FileImage? Before, FileImage? After);
