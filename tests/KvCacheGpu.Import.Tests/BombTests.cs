using System.Text;

namespace KvCacheGpu.Import.Tests;

/// <summary>Small files that name one tensor, one key or one name many times: their tensors and names are counted before they are made.</summary>
public sealed class BombTests
{
    // The most that a refusal may allocate: the values of a stream of some kilobytes.
    private const long Little = 4 << 20;

    [Fact]
    public void A_tensor_counts_as_often_as_it_is_used()
    {
        byte[] file = Shared(entries: 1, uses: 40, [2, 3]);
        ImportLimits all = new() { Tensors = 80, TensorBytes = 40 * 2 * 6 * sizeof(float) };
        using (CacheFile open = CacheFile.Read(file, limits: all))
        {
            Assert.Equal(80, open.Tensors.Count);
        }

        Assert.Equal("tensors", Refused(file, all with { Tensors = 79 }));
        Assert.Equal("tensor bytes", Refused(file, all with { TensorBytes = all.TensorBytes - 1 }));
    }

    [Fact]
    public void So_that_a_short_stream_cannot_list_it_a_million_times()
    {
        // A list of one pair in a list, six levels of ten each: a million pairs.
        PickleOutput pickle = new();
        pickle.Tensor("FloatStorage", 0, 6, [2, 3], [3, 1]);
        pickle.Write(Opcode.MEMOIZE);
        for (int level = 0; level < 6; level++)
        {
            pickle.Write(Opcode.MARK);
            for (int i = 0; i < 10; i++)
            {
                Get(pickle, level);
            }

            pickle.Write(Opcode.TUPLE);
            pickle.Write(Opcode.MEMOIZE);
        }

        // The first tensor and each level stay on the stack: one tuple takes them all.
        byte[] file = Zip([.. pickle.Stop()[..^1], (byte)Opcode.TUPLE3, (byte)Opcode.TUPLE3, (byte)Opcode.TUPLE3, (byte)Opcode.STOP], 6);
        AssertRefused("tensors", () => CacheFile.Read(file).Dispose());
    }

    [Fact]
    public void Layers_of_a_shared_stack_are_counted_before_they_are_split()
    {
        // 12,000 layers of one element; 80 positions name them: 1,920,000 tensors of a file of 50 KB.
        using CacheFile file = CacheFile.Read(Shared(entries: 80, uses: 1, [12_000, 1, 1], isToken: true));
        AssertRefused("layers of tensors", () => MappedCache.Of(file));
    }

    [Fact]
    public void Rows_of_a_shared_batch_are_counted_before_they_are_sequences()
    {
        using CacheFile file = CacheFile.Read(Shared(entries: 1, uses: 300, [9_000, 1, 1, 1]));
        AssertRefused("rows of tensors", () => MappedCache.Of(file));
    }

    [Fact]
    public void A_long_name_is_counted_for_each_row_of_a_batch()
    {
        // A name of 100,000 characters, and 600 rows: 60 million characters.
        using CacheFile file = CacheFile.Read(Shared(entries: 1, uses: 1, [600, 1, 1, 8], name: new string('n', 100_000)));
        AssertRefused("names", () => MappedCache.Of(file));
    }

    [Fact]
    public void Long_keys_of_many_entries_are_counted()
    {
        // A key of sixteen times one long text and a number, 3,000 times: 24 million characters as Python prints them.
        PickleOutput pickle = new();
        pickle.Write(Opcode.EMPTY_DICT);
        pickle.Text(new string('k', 600));
        pickle.Write(Opcode.MEMOIZE);
        pickle.Write(Opcode.NONE);
        pickle.Write(Opcode.SETITEM);
        pickle.Write(Opcode.MARK);
        for (int i = 0; i < 3_000; i++)
        {
            pickle.Write(Opcode.MARK);
            for (int part = 0; part < 15; part++)
            {
                Get(pickle, 0);
            }

            pickle.Integer(i);
            pickle.Write(Opcode.TUPLE);
            pickle.Write(Opcode.NONE);
        }

        pickle.Write(Opcode.SETITEMS);
        using CacheFile file = CacheFile.Read(pickle.Stop());

        // The text counted so far is in memory: 16 million characters, and as many again while they are built.
        Assert.Equal("names", Assert.Throws<ImportException>(() => MappedCache.Of(file)).Subject);
    }

    [Fact]
    public void A_layer_of_a_high_number_takes_no_room_for_those_below()
    {
        // 2,000 sequences of one layer each, the last of which claims that there are 4,000: all are quarantined, and none allocates 4,000 places.
        PickleOutput pickle = new();
        pickle.Write(Opcode.EMPTY_DICT);
        pickle.Write(Opcode.MARK);
        for (int i = 0; i < 2_000; i++)
        {
            pickle.Write(Opcode.MARK);
            pickle.Text($"s{i}");
            pickle.Integer(i == 1_999 ? 3_999 : 0);
            pickle.Write(Opcode.TUPLE);
            Pair(pickle, [1, 2, 3], isFirst: i == 0);
        }

        pickle.Write(Opcode.SETITEMS);
        using CacheFile file = CacheFile.Read(Zip(pickle.Stop(), 6));
        long before = GC.GetAllocatedBytesForCurrentThread();
        MappedCache mapped = MappedCache.Of(file);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 1, 4 * Little);
        Assert.Equal((4_000, 2_000, 0), (mapped.Geometry!.Layers, mapped.Count(EntryOutcome.Quarantined), mapped.Sequences.Count));
        Assert.Contains(mapped.Entries, entry => entry.Reason == "layer 1 is missing");
    }

    [Fact]
    public void What_an_honest_file_shares_is_read()
    {
        // Two sequences whose keys and values are one tensor of 4 tokens.
        using CacheFile file = CacheFile.Read(Shared(entries: 2, uses: 3, [2, 4, 8]));
        MappedCache mapped = MappedCache.Of(file);
        Assert.Equal((2, 3, 4), (mapped.Sequences.Count, mapped.Geometry!.Layers, mapped.Sequences[1].Tokens));
    }

    private static string Refused(byte[] file, ImportLimits limits) => Assert.Throws<ImportException>(() => CacheFile.Read(file, limits: limits)).Subject;

    private static void AssertRefused(string subject, Action act)
    {
        Assert.Equal(subject, Assert.Throws<ImportException>(act).Subject);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Throws<ImportException>(act);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 1, Little);
    }

    // {key: [pair] * uses}, every pair one tensor twice.
    private static byte[] Shared(int entries, int uses, long[] shape, bool isToken = false, string name = "s")
    {
        PickleOutput pickle = new();
        pickle.Write(Opcode.EMPTY_DICT);
        pickle.Write(Opcode.MARK);
        for (int entry = 0; entry < entries; entry++)
        {
            if (isToken)
            {
                pickle.Integer(entry);
            }
            else
            {
                pickle.Text($"{name}{entry}");
            }

            if (!isToken)
            {
                pickle.Write(Opcode.MARK);
            }

            for (int use = 0; use < uses; use++)
            {
                Pair(pickle, shape, isFirst: entry == 0 && use == 0);
            }

            if (!isToken)
            {
                pickle.Write(Opcode.TUPLE);
            }
        }

        pickle.Write(Opcode.SETITEMS);
        return Zip(pickle.Stop(), shape.Aggregate(1L, (product, size) => product * size));
    }

    private static void Pair(PickleOutput pickle, long[] shape, bool isFirst)
    {
        if (!isFirst)
        {
            Get(pickle, 1);
            return;
        }

        long[] strides = new long[shape.Length];
        long count = 1;
        for (int axis = shape.Length - 1; axis >= 0; axis--)
        {
            strides[axis] = count;
            count *= shape[axis];
        }

        pickle.Tensor("FloatStorage", 0, count, shape, strides);
        pickle.Write(Opcode.MEMOIZE);
        Get(pickle, 0);
        pickle.Write(Opcode.TUPLE2);
        pickle.Write(Opcode.MEMOIZE);
    }

    private static void Get(PickleOutput pickle, int index)
    {
        pickle.Write(Opcode.BINGET);
        pickle.Write((Opcode)index);
    }

    private static byte[] Zip(byte[] pickle, long elements)
    {
        using MemoryStream stream = new();
        StoredZipWriter zip = new(stream);
        byte[] storage = new byte[elements * sizeof(float)];
        zip.Add("a/data.pkl", pickle.Length, write => write(pickle));
        zip.Add("a/version", 2, write => write(Encoding.ASCII.GetBytes("3\n")));
        zip.Add("a/data/0", storage.Length, write => write(storage));
        zip.Finish();
        return stream.ToArray();
    }
}
