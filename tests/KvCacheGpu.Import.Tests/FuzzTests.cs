using System.Diagnostics;
using Xunit.Abstractions;

namespace KvCacheGpu.Import.Tests;

/// <summary>Mutated files, 20,000 per reader: success or a typed error, never another exception, a hang, or more than 64 MB. KVCACHE_FUZZ=full runs 200,000.</summary>
public sealed class FuzzTests(ITestOutputHelper output)
{
    private const int Slice = 20_000;
    private const int Full = 200_000;
    private const long MostBytes = 64 << 20;

    [Theory]
    [InlineData("plain_*.pkl", 11)]
    [InlineData("*zip_*.pt", 12)]
    [InlineData("legacy_*.pt", 13)]
    [InlineData("tar_*.pt", 14)]
    [InlineData("ok_*.pt", 15)]
    [InlineData("bad_*", 16)]
    public void A_mutated_file_is_read_or_refused(string pattern, int seed) => Run(pattern, seed, Mutation.OfBytes, leastRead: 0);

    // Content is mutated and its checksum computed again, so that the readers of the content are reached.
    [Theory]
    [InlineData("*zip_*.pt", 21)]
    [InlineData("tar_*.pt", 22)]
    public void A_file_with_mutated_members_and_right_checksums_is_read_or_refused(string pattern, int seed) =>
        Run(pattern, seed, Mutation.OfMembers, leastRead: 1);

    // The fixtures, and forms that they do not have.
    private static readonly ImportGeometry[] _shapes = [new(1, 2, 4, 4), new(2, 2, 8, 4), new(1, 1, 4, 4), new(1, 4, 4, 4)];

    private void Run(string pattern, int seed, Func<byte[], Random, byte[]> mutate, int leastRead)
    {
        byte[][] files = [.. Fixture.Names(pattern).Where(n => mutate != Mutation.OfMembers || !n.StartsWith("bad_", StringComparison.Ordinal)).Select(n => File.ReadAllBytes(Fixture.Path(n))).Where(b => b.Length is > 0 and < 20_000)];
        Assert.NotEmpty(files);
        Random random = new(seed);
        int runs = Environment.GetEnvironmentVariable("KVCACHE_FUZZ") == "full" ? Full : Slice;
        int refused = 0;
        long most = 0;
        TimeSpan longest = default;
        for (int run = 0; run < runs; run++)
        {
            byte[] input = mutate(files[random.Next(files.Length)], random);
            ReadOnlySpan<byte> beginning = input.AsSpan(0, Math.Min(512, input.Length));
            _ = (CacheFile.Recognises(beginning), CacheFile.KindOf(beginning));
            long before = GC.GetAllocatedBytesForCurrentThread();
            long start = Stopwatch.GetTimestamp();
            try
            {
                using CacheFile file = CacheFile.Read(input);
                MappedCache strict = MappedCache.Of(file, _shapes[run % _shapes.Length], lossless: true);
                Assert.True(strict.Loss.IsNone);
                foreach (MappedCache mapped in new[] { MappedCache.Of(file), strict })
                {
                    Assert.Equal(mapped.Entries.Count, Enum.GetValues<EntryOutcome>().Sum(mapped.Count));
                    foreach (MappedSequence sequence in mapped.Sequences)
                    {
                        ImportGeometry shape = mapped.Geometry!;
                        sequence.Read(shape.Layers - 1, sequence.Tokens - 1, 1, new float[shape.Heads * shape.KeyWidth], new float[shape.Heads * shape.ValueWidth]);
                    }
                }

                foreach (ImportTensor tensor in file.Tensors.Select(t => t.Tensor).Where(t => t.Count > 0))
                {
                    tensor.Read(tensor.Count - 1, new byte[tensor.Type.Bytes()].AsSpan());
                }
            }
            catch (ImportException)
            {
                refused++;
            }
            catch (Exception e)
            {
                Assert.Fail($"run {run} of seed {seed}: {e}");
            }

            most = Math.Max(most, GC.GetAllocatedBytesForCurrentThread() - before);
            longest = new TimeSpan(Math.Max(longest.Ticks, Stopwatch.GetElapsedTime(start).Ticks));
        }

        output.WriteLine($"{pattern}: {runs} inputs, {refused} refused, {runs - refused} read; most allocated {most:N0} bytes, longest {longest.TotalMilliseconds:F1} ms");
        Assert.InRange(most, 1, MostBytes);

        // Some must pass and some must not; otherwise the mutations test nothing.
        Assert.InRange(refused, runs / 100, runs - (runs * leastRead / 100));
    }
}
