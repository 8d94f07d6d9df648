using static KvCacheGpu.Import.Tests.OldTensor;

namespace KvCacheGpu.Import.Tests;

/// <summary>An element that cannot be part of a key or value takes its entry out of the import; elements that float32 rounds are counted.</summary>
public sealed class ContentTests
{
    private static readonly ImportGeometry One = new(1, Heads, KeyWidth, ValueWidth);

    [Theory]
    [InlineData(ElementType.Float32, double.NaN, "a NaN")]
    [InlineData(ElementType.Float16, double.PositiveInfinity, "an infinity")]
    [InlineData(ElementType.Float64, double.NegativeInfinity, "an infinity")]
    [InlineData(ElementType.Float64, double.NaN, "a NaN")]
    [InlineData(ElementType.Float64, -1e39, "a number beyond float32")]
    public void A_fault_quarantines_its_own_entry_alone(ElementType type, double fault, string what)
    {
        using CacheFile file = OldCache.Open(Entries(
            ("good", Tensor(false, 3), Tensor(true, 3)),
            ("bad keys", Tensor(false, 3) with { Type = type, First = fault }, Tensor(true, 3)),
            ("bad values", Tensor(false, 3), Tensor(true, 3) with { Type = type, First = fault }),
            ("also good", Tensor(false, 4), Tensor(true, 4))));
        foreach (ImportGeometry? shape in new[] { null, One })
        {
            MappedCache mapped = MappedCache.Of(file, shape);
            Assert.Equal(["good", "also good"], mapped.Sequences.Select(s => s.Name));
            Assert.Equal(
                [("/'bad keys'", $"{what} among its keys"), ("/'bad values'", $"{what} among its values")],
                mapped.Entries.Where(e => e.Outcome == EntryOutcome.Quarantined).Select(e => (e.Path, e.Reason!)));
        }
    }

    [Fact]
    public void The_layer_of_a_fault_is_named_and_the_rest_of_a_sequence_that_lost_one_goes_with_it()
    {
        OldTensor bad = Tensor(true, 3) with { First = double.NaN };
        using CacheFile whole = OldCache.Open(new List<object> { Pair(3), new object[] { Tensor(false, 3), bad } });
        Assert.Equal("a NaN among its values, layer 1", MappedCache.Of(whole).Entries.Single().Reason);

        using CacheFile layers = OldCache.Open(new (object, object)[]
        {
            (new object[] { "s", 0 }, Pair(3)), (new object[] { "s", 1 }, new object[] { Tensor(false, 3), bad }),
        });
        Assert.Equal(["layer 1 is missing", "a NaN among its values"], MappedCache.Of(layers, One with { Layers = 2 }).Entries.Select(e => e.Reason));

        using CacheFile tokens = OldCache.Open(Enumerable.Range(0, 4).Select(i => ((object)i, (object)new object[]
        {
            new OldTensor("hw") { Token = i }, new OldTensor("hw", true) { Token = i, First = i == 2 ? double.NaN : null },
        })).ToArray());
        MappedCache mapped = MappedCache.Of(tokens, One);
        Assert.Equal(2, Assert.Single(mapped.Sequences).Tokens);
        Assert.Equal([null, null, "a NaN among its values", "position 2 is missing or lacks a layer"], mapped.Entries.Select(e => e.Reason));
    }

    [Fact]
    public void Float64_that_float32_has_loses_nothing()
    {
        using CacheFile file = OldCache.Open(Entries(("s", Tensor(false, 3) with { Type = ElementType.Float64 }, Tensor(true, 3) with { Type = ElementType.Float64 })));
        MappedCache mapped = MappedCache.Of(file, lossless: true);
        Assert.Equal((1, true), (mapped.Count(EntryOutcome.Imported), mapped.Loss.IsNone));
        Assert.Equal([ElementType.Float64], mapped.Sequences[0].ElementTypes);
    }

    [Fact]
    public void What_float32_loses_is_counted_or_on_request_quarantined()
    {
        using CacheFile file = OldCache.Open(Entries(
            ("exact", Tensor(false, 3), Tensor(true, 3)),
            ("tenths", Tensor(false, 3) with { Type = ElementType.Float64, First = 0.3 }, Tensor(true, 3)),
            ("tiny", Tensor(false, 3) with { Type = ElementType.Float64, First = 0.3 }, Tensor(true, 3) with { Type = ElementType.Float64, First = 1e-60 })));
        MappedCache mapped = MappedCache.Of(file);
        Assert.Equal(3, mapped.Count(EntryOutcome.Imported));
        Assert.Equal([0L, 1, 2], mapped.Entries.Select(e => e.Loss.Elements));
        Assert.Equal((0.3 - 0.3f) / -0.3, mapped.Entries[1].Loss.Largest);
        Assert.Equal(new RoundingLoss(3, 1), mapped.Loss);

        MappedCache strict = MappedCache.Of(file, lossless: true);
        Assert.Equal(["exact"], strict.Sequences.Select(s => s.Name));
        Assert.Equal(
            [null, "float64, of which float32 does not have 1 elements", "float64, of which float32 does not have 2 elements"],
            strict.Entries.Select(e => e.Reason));
        Assert.True(strict.Loss.IsNone);
    }

    [Fact]
    public void A_view_that_repeats_elements_is_no_work_and_no_entry()
    {
        // A thousand times a thousand times a thousand elements of three thousand.
        PickleOutput pickle = new();
        pickle.Write(Opcode.EMPTY_LIST);
        pickle.Write(Opcode.MARK);
        pickle.Tensor("FloatStorage", 0, 3000, [1000, 1000, 1000], [1, 1, 1]);
        pickle.Tensor("FloatStorage", 0, 3000, [1000, 1000, 1000], [1, 1, 1]);
        pickle.Write(Opcode.APPENDS);
        using MemoryStream stream = new();
        StoredZipWriter zip = new(stream);
        byte[] root = pickle.Stop();
        zip.Add("cache/data.pkl", root.Length, write => write(root));
        zip.Add("cache/data/0", 12000, write => write(new byte[12000]));
        zip.Add("cache/version", 2, write => write("3\n"u8));
        zip.Finish();
        using CacheFile file = CacheFile.Read(stream.ToArray());
        Assert.Equal("elements that stand for several among its keys", MappedCache.Of(file).Entries.Single().Reason);
    }

    [Fact]
    public void Faults_are_found_wherever_a_tensor_begins_and_however_its_axes_lie()
    {
        // Longer than what is read at once, and the fault is the last element.
        OldTensor keys = new OldTensor("twh") { Tokens = 2000 };
        using CacheFile file = OldCache.Open(Entries(("s", keys, new OldTensor("twh", true) { Tokens = 2000 })));
        Assert.Equal(1, MappedCache.Of(file, One).Count(EntryOutcome.Imported));
        ImportTensor tensor = file.Tensors[0].Tensor;
        Assert.Equal((tensor.Count, tensor.Count), (tensor.Span, tensor.Permute(2, 0, 1).Span));
        byte[] inOrder = new byte[tensor.Count * sizeof(float)];
        byte[] again = new byte[inOrder.Length];
        tensor.Read(0, inOrder.AsSpan());
        tensor.Permute(2, 0, 1).InStorageOrder().Read(0, again.AsSpan());
        Assert.Equal(inOrder, again);
    }

    private static (object Key, object Value)[] Entries(params (string Key, OldTensor Keys, OldTensor Values)[] entries) =>
        [.. entries.Select(e => ((object)e.Key, (object)new object[] { e.Keys, e.Values }))];

    private static object[] Pair(int tokens) => [Tensor(false, tokens), Tensor(true, tokens)];

    private static OldTensor Tensor(bool isValue, int tokens) => new("htw", isValue) { Tokens = tokens };
}
