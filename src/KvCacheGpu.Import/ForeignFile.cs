using System.Buffers.Binary;

namespace KvCacheGpu.Import;

/// <summary>Recognises files that people take for old caches by their first bytes, so that the refusal names their kind.</summary>
internal static class ForeignFile
{
    /// <summary>Names the kind of a file, and says what to do about it; null if it may be an old cache, or if the kind is not known.</summary>
    /// <param name="start">Its first 512 bytes, or all if there are fewer.</param>
    public static string? NameOf(ReadOnlySpan<byte> start) => start switch
    {
        [] => "an empty file",
        _ when start.StartsWith("version https://git-lfs.github.com/spec/"u8) => "a Git LFS pointer in place of the file; git lfs pull fetches it",
        [0x93, (byte)'N', (byte)'U', (byte)'M', (byte)'P', (byte)'Y', ..] => "one array of numpy.save (.npy); pickle.dump a dict of such arrays",
        _ when IsNumpyArchive(start) => "arrays of numpy.savez (.npz); pickle.dump a dict of them",
        [0x1f, 0x8b, ..] => "a gzip file; gunzip it first",
        _ when start.StartsWith("GGUF"u8) => "a model in GGUF",
        [0x89, (byte)'H', (byte)'D', (byte)'F', ..] => "an HDF5 file",
        _ when IsSafetensors(start) => "a safetensors file",
        [(byte)'{', ..] or [(byte)'[', ..] => "JSON, or another text",
        _ => null,
    };

    // A ZIP archive whose first member is NAME.npy.
    private static bool IsNumpyArchive(ReadOnlySpan<byte> start)
    {
        const int LocalBytes = 30;
        if (start.Length < LocalBytes || !start.StartsWith("PK\x03\x04"u8))
        {
            return false;
        }

        int length = BinaryPrimitives.ReadUInt16LittleEndian(start[26..]);
        return length <= start.Length - LocalBytes && start.Slice(LocalBytes, length).EndsWith(".npy"u8);
    }

    // A safetensors file begins with the length of a header in JSON, then the header.
    private static bool IsSafetensors(ReadOnlySpan<byte> start) =>
        start.Length > 9 && start[8] == '{' && (start[9] is (byte)'"' or (byte)'}') && BinaryPrimitives.ReadInt64LittleEndian(start) is > 1 and < 1 << 30;
}
