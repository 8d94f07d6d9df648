using K4os.Compression.LZ4;
using KvCacheGpu.TestKit;
using Xunit.Abstractions;

namespace KvCacheGpu.Snapshots.Tests;

/// <summary>
/// Flipped bits again, with every checksum made to fit, as someone who knows the format would: an error, or a load that says exactly
/// what the altered bytes say. Never another exception, and never more memory than the file may ask for.
/// </summary>
public class ResealedFlipTests(ITestOutputHelper output)
{
    private const long MostAllocated = 9 << 20;

    [Fact]
    public void Every_bit_of_the_manifest()
    {
        var snapshot = new SmallSnapshot();
        byte[] manifest = snapshot.Manifest.ToArray(), current = snapshot.Current.ToArray();
        long flips = 0, loads = 0;
        for (int bit = 0; bit < (manifest.Length - 16) * 8; bit++)
        {
            if (bit / 8 is >= 56 and < 64)
            {
                continue; // The header's own check, which is made to fit.
            }

            byte[] altered = [.. manifest];
            altered[bit / 8] ^= (byte)(1 << (bit % 8));
            snapshot.Reseal(altered);
            string? found = snapshot.TryLoad();
            Assert.True(found is null || found == snapshot.Sample.Fingerprint, $"bit {bit}");
            (flips, loads) = (flips + 1, loads + (found is null ? 0 : 1));
        }

        snapshot.Manifest.Replace(manifest);
        snapshot.Current.Replace(current);
        Finish(snapshot, $"bits of a resealed manifest, {loads} of which only the time of creation heeds", flips, 3_000);
        Assert.InRange(loads, 30, 64); // Bits of the time of creation.
    }

    [Fact]
    public void Every_bit_of_the_tables_decoded_and_as_they_are_stored()
    {
        var snapshot = new SmallSnapshot();
        byte[] blocks = snapshot.Blocks.ToArray(), manifestBytes = snapshot.Manifest.ToArray();
        SnapshotManifest manifest = snapshot.ReadManifest();
        long flips = 0, loads = 0;
        for (int index = 0; index < manifest.Section(SectionKind.Pages).FirstBlock; index++)
        {
            BlockRecord record = manifest.Blocks[index];
            byte[] stored = blocks.AsSpan((int)record.Offset, record.Stored).ToArray(), decoded = new byte[record.Decoded];
            if (record.IsCompressed)
            {
                Assert.Equal(decoded.Length, LZ4Codec.Decode(stored, decoded));
            }
            else
            {
                stored.CopyTo(decoded, 0);
            }

            for (int bit = 0; bit < decoded.Length * 8; bit++)
            {
                byte[] altered = [.. decoded];
                altered[bit / 8] ^= (byte)(1 << (bit % 8));
                loads += Load(snapshot, manifest, blocks, index, altered, altered, false) ? 1 : 0;
                flips++;
            }

            for (int bit = 0; record.IsCompressed && bit < stored.Length * 8; bit++)
            {
                byte[] altered = [.. stored], garbage = new byte[decoded.Length];
                altered[bit / 8] ^= (byte)(1 << (bit % 8));
                LZ4Codec.Decode(altered, garbage);
                loads += Load(snapshot, manifest, blocks, index, altered, garbage, true) ? 1 : 0;
                flips++;
            }
        }

        snapshot.Blocks.Replace(blocks);
        snapshot.Reseal(manifestBytes);
        Finish(snapshot, $"bits of resealed tables, {loads} of which say something else", flips, 20_000);
    }

    // The altered snapshot, in which only this block differs; whether it loads, and then as those bytes say.
    private static bool Load(SmallSnapshot snapshot, SnapshotManifest manifest, byte[] blocks, int index, byte[] stored, byte[] decoded, bool isCompressed)
    {
        BlockRecord old = manifest.Blocks[index];
        byte[] file = [.. blocks.AsSpan(0, (int)old.Offset), .. stored, .. blocks.AsSpan((int)old.Offset + old.Stored)];
        BlockRecord[] records = [.. manifest.Blocks];
        records[index] = new BlockRecord(old.Offset, stored.Length, decoded.Length, isCompressed, BlockCodec.HashOf(decoded, 1));
        new FileHeader(1, FileKind.Blocks, false, 1, file.Length, manifest.Salt).ToBytes().CopyTo(file, 0);
        using var codec = new BlockCodec(new byte[32], 1, null);
        snapshot.Blocks.Replace(file);
        snapshot.Reseal(ManifestFile.Write(manifest with { Blocks = records }, codec));
        if (snapshot.TryLoad() is null)
        {
            return false;
        }

        using OpenSnapshot open = snapshot.Store.Store.Open("a", false, null, default);
        byte[] tables =
        [
            .. DescriptionSection.Write(open.Content).Written, .. PageTableSection.Write(open.Content).Written, .. SequencesSection.Write(open.Content).Written,
        ];
        int at = manifest.Blocks.Take(index).Sum(block => block.Decoded);
        Assert.True(tables.AsSpan(at, decoded.Length).SequenceEqual(decoded), $"block {index} was read as other than it says");
        return true;
    }

    private void Finish(SmallSnapshot snapshot, string what, long fired, long least)
    {
        FaultTally.Report(output, $"{what}; at most {snapshot.MostAllocated >> 10} KiB allocated by a load", fired, least);
        Assert.InRange(snapshot.MostAllocated, 1, MostAllocated);
        Assert.Equal(snapshot.Sample.Fingerprint, snapshot.TryLoad());
    }
}
