using System.Diagnostics;
using Xunit.Abstractions;

namespace KvCacheGpu.Import.Tests;

/// <summary>Mutated files: success or a typed error, never another exception, a hang, or more than 64 MB. KVCACHE_FUZZ=full runs 200,000 per reader.</summary>
public sealed class FuzzTests(ITestOutputHelper output)
{
    private const int Slice = 3_000;
    private const int Full = 200_000;
    private const long MostBytes = 64 << 20;

    // What follows a length is where readers go wrong.
    private static readonly byte[] Telling = [0, 1, 0x7f, 0x80, 0xff, .. "().abcdehjqrstuQRXBCGJKMN]}".Select(c => (byte)c), .. Enumerable.Range(0x80, 0x19).Select(b => (byte)b)];

    [Theory]
    [InlineData("plain_*.pkl", 11)]
    [InlineData("*zip_*.pt", 12)]
    [InlineData("legacy_*.pt", 13)]
    [InlineData("tar_*.pt", 14)]
    [InlineData("ok_*.pt", 15)]
    [InlineData("bad_*", 16)]
    public void A_mutated_file_is_read_or_refused(string pattern, int seed)
    {
        byte[][] files = [.. Fixture.Names(pattern).Select(n => File.ReadAllBytes(Fixture.Path(n))).Where(b => b.Length is > 0 and < 20_000)];
        Assert.NotEmpty(files);
        Random random = new(seed);
        int runs = Environment.GetEnvironmentVariable("KVCACHE_FUZZ") == "full" ? Full : Slice;
        int refused = 0;
        long most = 0;
        TimeSpan longest = default;
        for (int run = 0; run < runs; run++)
        {
            byte[] input = Mutate(files[random.Next(files.Length)], random);
            long before = GC.GetAllocatedBytesForCurrentThread();
            long start = Stopwatch.GetTimestamp();
            try
            {
                using CacheFile file = CacheFile.Read(input);
                MappedCache mapped = MappedCache.Of(file);
                Assert.Equal(mapped.Entries.Count, Enum.GetValues<EntryOutcome>().Sum(mapped.Count));
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

        // Some must pass and some must not: else the mutations say nothing.
        Assert.InRange(refused, runs / 100, runs);
    }

    private static byte[] Mutate(byte[] file, Random random)
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
}
