using System.Text;

namespace KvCacheGpu.Import;

/// <summary>A tar archive of plain files. <c>[512 bytes of header][data, padded to 512]</c>, then zeros.</summary>
internal static class TarArchive
{
    private const int BlockBytes = 512;
    private const int NameBytes = 100;
    private const int ChecksumAt = 148;

    /// <summary>True if a file begins with a tar header.</summary>
    public static bool Is(ByteSource file)
    {
        Span<byte> magic = stackalloc byte[5];
        if (file.Length < BlockBytes)
        {
            return false;
        }

        file.Read(257, magic);
        return magic.SequenceEqual("ustar"u8);
    }

    /// <summary>The members by name.</summary>
    public static Dictionary<string, ByteSource> Open(ByteSource file, ReadBudget budget)
    {
        Dictionary<string, ByteSource> members = new(StringComparer.Ordinal);
        Span<byte> header = stackalloc byte[BlockBytes];
        for (long at = 0; ;)
        {
            if (file.Length - at < BlockBytes)
            {
                throw ImportException.Corrupt("tar file", at, "a block of zeros at its end", $"{file.Length - at} bytes");
            }

            file.Read(at, header);
            if (!header.ContainsAnyExcept((byte)0))
            {
                return members;
            }

            ReadBudget.Check("members", members.Count + 1, budget.Limits.Members, at);
            CheckSum(header, at);
            long bytes = Octal(header.Slice(124, 12), at);
            string name = Encoding.Latin1.GetString(Until0(header[..NameBytes]));
            if (header[156] is not (0 or (byte)'0'))
            {
                throw ImportException.Unsupported($"member {name}", at, "a plain file", $"type {header[156]}");
            }

            at += BlockBytes;
            if (bytes > file.Length - at)
            {
                throw ImportException.Corrupt($"member {name}", at, $"at most the {file.Length - at} bytes that remain", $"{bytes}");
            }

            if (!members.TryAdd(name, file.Slice(at, bytes)))
            {
                throw ImportException.Corrupt($"member {name}", at, "each name once", "it again");
            }

            at += (bytes + BlockBytes - 1) / BlockBytes * BlockBytes;
        }
    }

    private static void CheckSum(ReadOnlySpan<byte> header, long at)
    {
        // The checksum counts its own field as blanks.
        int sum = 8 * ' ';
        for (int i = 0; i < BlockBytes; i++)
        {
            sum += i is >= ChecksumAt and < ChecksumAt + 8 ? 0 : header[i];
        }

        if (Octal(header.Slice(ChecksumAt, 8), at) != sum)
        {
            throw ImportException.Corrupt("tar header", at, $"the sum {sum}", "another");
        }
    }

    private static long Octal(ReadOnlySpan<byte> field, long at)
    {
        long number = 0;
        foreach (byte digit in Until0(field).Trim((byte)' '))
        {
            number = digit is >= (byte)'0' and <= (byte)'7' ? (number * 8) + digit - '0' : throw ImportException.Corrupt("tar header", at, "octal digits", $"byte {digit}");
        }

        return number;
    }

    private static ReadOnlySpan<byte> Until0(ReadOnlySpan<byte> field) => field.IndexOf((byte)0) is >= 0 and var end ? field[..end] : field;
}
