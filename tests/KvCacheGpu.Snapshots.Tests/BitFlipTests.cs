using KvCacheGpu.TestKit;
using Xunit.Abstractions;

namespace KvCacheGpu.Snapshots.Tests;

/// <summary>Every bit and every length of a snapshot of 16 KiB.</summary>
public class BitFlipTests(ITestOutputHelper output)
{
    // The most that a file of 16 KiB may make a reader allocate: LZ4 can promise 255 times as much.
    private const long MostAllocated = 6 << 20;

    [Fact]
    public void Every_flipped_bit_is_an_error_or_changes_nothing()
    {
        var snapshot = new SmallSnapshot();
        string good = snapshot.Sample.Fingerprint;
        long flips = 0, errors = 0;
        foreach (DiskFile file in snapshot.Files)
        {
            for (long bit = 0; bit < file.Length * 8; bit++)
            {
                file.Flip(bit);
                string? found = snapshot.TryLoad();
                file.Flip(bit);
                Assert.True(found is null || found == good, $"bit {bit} of {file.Length} bytes went unnoticed");
                (flips, errors) = (flips + 1, errors + (found is null ? 1 : 0));
            }
        }

        Finish(snapshot, $"bit flips, {errors} of them errors", flips, SmallSnapshot.Bytes * 8);

        // The generation is found without CURRENT too, and a run of equal bytes may be copied from another place of it.
        Assert.InRange(errors, flips * 99 / 100, flips);
    }

    [Fact]
    public void Every_truncation_is_an_error_or_changes_nothing()
    {
        var snapshot = new SmallSnapshot();
        string good = snapshot.Sample.Fingerprint;
        long cuts = 0;
        foreach (DiskFile file in snapshot.Files)
        {
            byte[] whole = file.ToArray();
            for (int length = 0; length < whole.Length; length++)
            {
                file.Replace(whole[..length]);
                string? found = snapshot.TryLoad();
                Assert.True(found is null || (found == good && file == snapshot.Current), $"cut to {length} of {whole.Length} bytes");
                cuts++;
            }

            file.Replace(whole);
        }

        Finish(snapshot, "truncations", cuts, SmallSnapshot.Bytes);
    }

    private void Finish(SmallSnapshot snapshot, string what, long fired, long least)
    {
        FaultTally.Report(output, $"{what}; at most {snapshot.MostAllocated >> 10} KiB allocated by a load", fired, least);
        Assert.InRange(snapshot.MostAllocated, 1, MostAllocated);
        Assert.Equal(snapshot.Sample.Fingerprint, snapshot.TryLoad());
        Assert.Equal(0, snapshot.Store.Files.OpenDescriptors);
    }
}
