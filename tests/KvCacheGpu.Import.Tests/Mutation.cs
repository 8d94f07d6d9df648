using System.Formats.Tar;
using System.IO.Compression;

namespace KvCacheGpu.Import.Tests;

/// <summary>Changes files as damage or an attacker would.</summary>
internal static class Mutation
{
    // Readers go wrong most easily after a length.
    private static readonly byte[] Telling = [0, 1, 0x7f, 0x80, 0xff, .. "().abcdehjqrstuQRXBCGJKMN]}".Select(c => (byte)c), .. Enumerable.Range(0x80, 0x19).Select(b => (byte)b)];

    /// <summary>One to three changes anywhere. A checksum that covers them no longer holds.</summary>
    public static byte[] OfBytes(byte[] file, Random random)
    {
        List<byte> bytes = [.. file];
        for (int changes = random.Next(1, 4); changes > 0 && bytes.Count > 8; changes--)
        {
            int at = random.Next(bytes.Count);
            switch (random.Next(7))
            {
                case 0:
                    bytes[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 1:
                    bytes[at] = Telling[random.Next(Telling.Length)];
                    break;
                case 2:
                    bytes.Insert(at, Telling[random.Next(Telling.Length)]);
                    break;
                case 3:
                    bytes.RemoveRange(at, Math.Min(random.Next(1, 9), bytes.Count - at));
                    break;
                case 4:
                    // A run of the file somewhere else in it: opcodes with their arguments move together.
                    List<byte> run = bytes.GetRange(at, Math.Min(random.Next(1, 65), bytes.Count - at));
                    bytes.InsertRange(random.Next(bytes.Count), run);
                    break;
                case 5:
                    // A length or a size, at its limits.
                    byte[] number = BitConverter.GetBytes(new[] { 0L, -1, long.MaxValue, int.MaxValue, uint.MaxValue, 1L << 40 }[random.Next(6)]);
                    for (int i = 0; i < Math.Min(random.Next(2) == 0 ? 4 : 8, bytes.Count - at); i++)
                    {
                        bytes[at + i] = number[i];
                    }

                    break;
                default:
                    bytes.RemoveRange(at, bytes.Count - at);
                    break;
            }
        }

        return [.. bytes];
    }

    /// <summary>One to three changes within the members of an archive, or to the list of them; all lengths and checksums are right again.</summary>
    public static byte[] OfMembers(byte[] archive, Random random)
    {
        bool isZip = archive.AsSpan().StartsWith("PK"u8);
        List<(string Name, byte[] Bytes)> members = isZip ? FromZip(archive) : FromTar(archive);
        for (int changes = random.Next(1, 4); changes > 0; changes--)
        {
            int at = random.Next(members.Count);
            (string name, byte[] bytes) = members[at];
            switch (random.Next(16))
            {
                case 0:
                    members.RemoveAt(at);
                    members.Add((name, bytes));
                    break;
                case 1 when members.Count > 1:
                    members.RemoveAt(at);
                    break;
                case 2:
                    members.Add((members[random.Next(members.Count)].Name, bytes));
                    break;
                case 3:
                    members[at] = (new[] { "../" + name, "/" + name, name + "/", name + "0", "a/" + name }[random.Next(5)], bytes);
                    break;
                case 4:
                    members[at] = (name, new byte[random.Next(600)]);
                    break;
                default:
                    // The pickle describes the whole file, so it is changed most often.
                    int pickle = members.FindIndex(m => m.Name.EndsWith("data.pkl", StringComparison.Ordinal) || m.Name is "pickle" or "tensors" or "storages");
                    int changed = pickle >= 0 && random.Next(4) > 0 ? pickle : at;
                    members[changed] = (members[changed].Name, OfBytes(members[changed].Bytes, random));
                    break;
            }
        }

        return isZip ? ToZip(members) : ToTar(members);
    }

    private static List<(string Name, byte[] Bytes)> FromZip(byte[] file)
    {
        using ZipArchive zip = new(new MemoryStream(file));
        return [.. zip.Entries.Select(e => (e.FullName, Whole(e.Open())))];
    }

    private static byte[] ToZip(List<(string Name, byte[] Bytes)> members)
    {
        using MemoryStream stream = new();
        StoredZipWriter zip = new(stream);
        members.ForEach(m => zip.Add(m.Name, m.Bytes.Length, write => write(m.Bytes)));
        zip.Finish();
        return stream.ToArray();
    }

    private static List<(string Name, byte[] Bytes)> FromTar(byte[] file)
    {
        using TarReader tar = new(new MemoryStream(file));
        List<(string Name, byte[] Bytes)> members = [];
        while (tar.GetNextEntry(copyData: true) is { } entry)
        {
            members.Add((entry.Name, entry.DataStream is null ? [] : Whole(entry.DataStream)));
        }

        return members;
    }

    private static byte[] ToTar(List<(string Name, byte[] Bytes)> members)
    {
        using MemoryStream stream = new();
        using (TarWriter tar = new(stream, TarEntryFormat.Ustar, leaveOpen: true))
        {
            members.ForEach(m => tar.WriteEntry(new UstarTarEntry(TarEntryType.RegularFile, m.Name) { DataStream = new MemoryStream(m.Bytes) }));
        }

        return stream.ToArray();
    }

    private static byte[] Whole(Stream stream)
    {
        using MemoryStream bytes = new();
        stream.CopyTo(bytes);
        return bytes.ToArray();
    }
}
