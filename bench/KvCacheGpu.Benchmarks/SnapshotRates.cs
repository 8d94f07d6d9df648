using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using K4os.Compression.LZ4;
using KvCacheGpu.Kernels;
using KvCacheGpu.Measuring;

namespace KvCacheGpu.Benchmarks;

/// <summary>
/// Saving and loading as fractions of the slower of disk and LZ4, all measured in turns in the same run. Pages hold Gaussian numbers as
/// each format codes them, so that LZ4 finds what it would find.
/// </summary>
internal static partial class SnapshotRates
{
    private const int Rounds = 5;
    private const int Block = 1 << 20;
    private const int DontNeed = 4;

    private static readonly PageFormat[] Formats = [PageFormat.F16, PageFormat.I8, PageFormat.T4];

    public static int Run(string[] options)
    {
        if (options.Length > 2 || (options.Length > 0 && !int.TryParse(options[0], CultureInfo.InvariantCulture, out _)))
        {
            Console.Error.WriteLine("usage: snapshots [MiB] [directory]");
            return 2;
        }

        int mebibytes = options.Length > 0 ? int.Parse(options[0], CultureInfo.InvariantCulture) : 256;
        string folder = Path.Combine(options.Length > 1 ? options[1] : Path.GetTempPath(), $"kvcache-snapshots-{Environment.ProcessId}");
        Directory.CreateDirectory(folder);
        try
        {
            Print($"{mebibytes} MiB of pages, {Environment.ProcessorCount} logical cores, .NET {Environment.Version}, {Rounds} rounds, medians; MB/s of decoded bytes");
            const string Columns = "stored | disk write + fsync | LZ4 | save | of the slower | disk read | LZ4 back | load | of the slower | MiB allocated |";
            Print("");
            Print($"| pages | {Columns}");
            Print("|---|---|---|---|---|---|---|---|---|---|---|");
            Array.ForEach(Formats, format => Measure(format, mebibytes, folder));
            Print("");
            Print($"| a cache of | {Columns} MiB of memory that loading takes beside the pages | of the pages |");
            Print("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
            Array.ForEach(Formats, format => MeasureCache(format, mebibytes, folder));
        }
        finally
        {
            Directory.Delete(folder, true);
        }

        return 0;
    }

    private static void Measure(PageFormat format, int mebibytes, string folder)
    {
        byte[] pool = Codes(format, 8 << 20);
        var geometry = new KvGeometry(layers: 1, queryHeads: 1, kvHeads: 1, keyWidth: 128, pageTokens: 64);
        var layout = new PageLayout(geometry, format, format == PageFormat.T4 ? PageFormat.V4 : format);
        int pages = (int)(((long)mebibytes << 20) / layout.Bytes);
        SnapshotContent content = Content(geometry, layout, pages);
        long bytes = content.PageBytes;
        var store = new SnapshotStore(Path.Combine(folder, format.Name()));
        void Read(int first, Span<byte> target)
        {
            int at = (int)((long)first * layout.Bytes % (pool.Length - Block));
            pool.AsSpan(at, target.Length).CopyTo(target);
        }

        var sink = new byte[bytes];
        (string rates, long allocated) = Compare(
            pool,
            bytes,
            folder,
            store,
            () => store.SaveAsync("a", content, Read).Result.StoredBytes,
            () => store.LoadAsync("a", new Sink(sink, layout.Bytes)).Wait());
        Print($"| {layout} | {rates} | {allocated >> 20} |");
    }

    // Medians of all rates, as a row's cells, and the most managed bytes that one save and load allocated.
    private static (string Rates, long Allocated) Compare(byte[] pool, long bytes, string folder, SnapshotStore store, Func<long> save, Action load)
    {
        List<double> write = [], pack = [], saving = [], read = [], unpack = [], loading = [];
        long allocated = 0;
        long stored = bytes;
        for (int round = 0; round < Rounds; round++)
        {
            write.Add(Rate(bytes, () => WriteDisk(folder, pool, stored)));
            pack.Add(Rate(bytes, () => Lz4(pool, bytes, back: false)));
            long before = GC.GetTotalAllocatedBytes(true);
            saving.Add(Rate(bytes, () => stored = save()));
            Forget(folder);
            read.Add(Rate(bytes, () => ReadDisk(folder)));
            unpack.Add(Rate(bytes, () => Lz4(pool, bytes, back: true)));
            Forget(store.StorePath);
            loading.Add(Rate(bytes, load));
            allocated = Math.Max(allocated, GC.GetTotalAllocatedBytes(true) - before);
        }

        (double w, double p, double s) = (Median(write), Median(pack), Median(saving));
        (double r, double u, double l) = (Median(read), Median(unpack), Median(loading));
        string rates = string.Create(
            CultureInfo.InvariantCulture,
            $"{(double)stored / bytes:p0} | {w:f0} | {p:f0} | {s:f0} | {s / Math.Min(w, p):p0} | {r:f0} | {u:f0} | {l:f0} | {l / Math.Min(r, u):p0}");
        return (rates, allocated);
    }

    private static SnapshotContent Content(KvGeometry geometry, PageLayout layout, int pages) => new()
    {
        Geometry = geometry,
        Classes = [new PageLayout(geometry, PageFormat.F16, PageFormat.F16, false), layout],
        LayerClasses = [0b11],
        RotationSeed = 1,
        Sequences =
        [
            new SnapshotSequence
            {
                Id = "0",
                TokenIds = new int[pages * geometry.PageTokens],
                RowStarts = (int[])[0, pages],
                PageIndexes = Enumerable.Range(0, pages).ToArray(),
                Ordinals = Enumerable.Range(0, pages).ToArray(),
                FirstOpenPage = pages,
            },
        ],
        PageClasses = Enumerable.Repeat((byte)1, pages).ToArray(),
    };

    // Gaussian numbers as a format codes them.
    private static byte[] Codes(PageFormat format, int bytes)
    {
        float[] numbers = FilledCache.Gaussian(new Random(1), bytes);
        byte[] codes = new byte[bytes];
        for (int i = 0; i < bytes; i++)
        {
            float one = numbers[i], other = numbers[bytes - 1 - i];
            codes[i] = format switch
            {
                PageFormat.I8 => (byte)(sbyte)Math.Clamp(one * 40, -127, 127),
                PageFormat.T4 => (byte)(Math.Clamp((int)((one * 2.7f) + 8), 0, 15) | (Math.Clamp((int)((other * 2.7f) + 8), 0, 15) << 4)),
                _ => (byte)(BitConverter.HalfToUInt16Bits((Half)numbers[i / 2]) >> (8 * (i % 2))),
            };
        }

        return codes;
    }

    private static void WriteDisk(string folder, byte[] pool, long bytes)
    {
        LibcFiles files = LibcFiles.Instance;
        File.Delete(Path.Combine(folder, "plain"));
        using var directory = new OpenFile(files, files.OpenDirectory(folder));
        using OpenFile file = directory.Open("plain", FileUse.Create);
        for (long at = 0; at < bytes; at += Block)
        {
            file.Write(pool.AsSpan((int)(at % (pool.Length - Block)), (int)Math.Min(Block, bytes - at)), at);
        }

        file.Sync();
    }

    // So that reading is the disk's: the page cache lets go of what was synced.
    private static void Forget(string folder)
    {
        LibcFiles files = LibcFiles.Instance;
        using var directory = new OpenFile(files, files.OpenDirectory(folder));
        foreach (string path in Directory.GetFiles(folder))
        {
            using OpenFile file = directory.Open(Path.GetFileName(path), FileUse.Read);
            _ = Advise(file.Descriptor, 0, 0, DontNeed);
        }
    }

    [LibraryImport("libc", EntryPoint = "posix_fadvise")]
    private static partial int Advise(int file, long offset, long length, int advice);

    private static void ReadDisk(string folder)
    {
        LibcFiles files = LibcFiles.Instance;
        using var directory = new OpenFile(files, files.OpenDirectory(folder));
        using OpenFile file = directory.Open("plain", FileUse.Read);
        byte[] buffer = new byte[Block];
        for (long at = 0, length = file.Length; at < length; at += Block)
        {
            file.Read(buffer.AsSpan(0, (int)Math.Min(Block, length - at)), at);
        }
    }

    // On all cores, with the limit that blocks have.
    private static void Lz4(byte[] pool, long bytes, bool back)
    {
        byte[] packed = new byte[Block];
        int length = LZ4Codec.Encode(pool.AsSpan(0, Block), packed.AsSpan(0, Block - (Block / 16)));
        Parallel.For(0, (int)(bytes / Block), () => new byte[Block], (i, _, target) =>
        {
            ReadOnlySpan<byte> source = pool.AsSpan(i % 7 * Block, Block);
            if (!back)
            {
                LZ4Codec.Encode(source, target.AsSpan(0, Block - (Block / 16)));
            }
            else if (length > 0)
            {
                LZ4Codec.Decode(packed.AsSpan(0, length), target);
            }
            else
            {
                source.CopyTo(target);
            }

            return target;
        }, _ => { });
    }

    private static double Rate(long bytes, Action work)
    {
        long start = Stopwatch.GetTimestamp();
        work();
        return bytes / Stopwatch.GetElapsedTime(start).TotalSeconds / 1e6;
    }

    private static double Median(List<double> values) => values.Order().ElementAt(values.Count / 2);

    private static void Print(string line) => Console.WriteLine(line);

    private sealed class Sink(byte[] target, int pageBytes) : ISnapshotTarget
    {
        public void Begin(SnapshotContent content)
        {
        }

        public void Write(int firstOrdinal, ReadOnlySpan<byte> bytes) => bytes.CopyTo(target.AsSpan(firstOrdinal * pageBytes));

        public void Complete()
        {
        }

        public void Abandon()
        {
        }
    }
}
