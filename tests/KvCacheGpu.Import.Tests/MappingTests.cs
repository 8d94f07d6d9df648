using static KvCacheGpu.Import.Tests.OldTensor;

namespace KvCacheGpu.Import.Tests;

/// <summary>Maps old caches: every element is in its place, and every entry has an outcome.</summary>
public sealed class MappingTests
{
    private static readonly ImportGeometry One = new(1, Heads, KeyWidth, ValueWidth);
    private static readonly ImportGeometry Two = One with { Layers = 2 };

    [Theory]
    [InlineData("htw")]
    [InlineData("thw")]
    [InlineData("hwt")]
    [InlineData("twh")]
    [InlineData("bhtw")]
    [InlineData("bthw")]
    [InlineData("bhwt")]
    [InlineData("btwh")]
    public void Axes_are_told_apart_by_a_declared_shape(string axes)
    {
        using CacheFile file = OldCache.Open(Dict(("s", Pair(axes, tokens: 4))));
        Holds(Mapped(file, One, 1), ("s", 4, 0));
    }

    [Theory]
    [InlineData("hw")]
    [InlineData("wh")]
    public void One_token_is_a_matrix(string axes)
    {
        using CacheFile file = OldCache.Open(Dict((0, Pair(axes)), (1, Pair(axes, token: 1))));
        Holds(Mapped(file, One, 2), (CachePlace.Positions, 2, 0));
    }

    [Theory]
    [InlineData("list")]
    [InlineData("key", "value")]
    [InlineData("k", "v")]
    public void Keys_and_values_are_a_pair_in_any_of_its_forms(string first, string? second = null)
    {
        object[] pair = Pair("bhtw", tokens: 3);
        using CacheFile file = OldCache.Open(Dict(("s", second is null ? new List<object>(pair) : Dict((first, pair[0]), (second, pair[1])))));
        Holds(Mapped(file, One, 1), ("s", 3, 0));
        using CacheFile alone = OldCache.Open(second is null ? new List<object>(pair) : Dict((first, pair[0]), (second, pair[1])));
        Holds(Mapped(alone, One, 1), ("cache", 3, 0));
    }

    [Fact]
    public void A_list_of_layers_is_one_sequence()
    {
        List<object> layers = [Pair("bhtw", tokens: 3), Pair("bhtw", tokens: 3, layer: 1)];
        using CacheFile file = OldCache.Open(Dict(("s", layers), ("t", layers.ToArray())));
        Holds(Mapped(file, Two, 2), ("s", 3, 0), ("t", 3, 0));
        using CacheFile alone = OldCache.Open(layers);
        Holds(Mapped(alone, null, 1), ("cache", 3, 0));
    }

    [Fact]
    public void Layers_may_be_the_outermost_axis()
    {
        using CacheFile file = OldCache.Open(Dict(("s", new object[] { new OldTensor("lbhtw") { Layers = 2, Tokens = 3 }, new OldTensor("lbhtw", true) { Layers = 2, Tokens = 3 } })));
        Holds(Mapped(file, Two, 1), ("s", 3, 0));
        using CacheFile token = OldCache.Open(Dict((0, new object[] { new OldTensor("lhw") { Layers = 2 }, new OldTensor("lhw", true) { Layers = 2 } })));
        Holds(Mapped(token, Two, 1), (CachePlace.Positions, 1, 0));
    }

    [Fact]
    public void Layers_are_the_first_of_four_axes_where_the_shape_is_declared_and_the_key_names_none()
    {
        object[] stacked = [new OldTensor("lhtw") { Layers = 2, Tokens = 3 }, new OldTensor("lhtw", true) { Layers = 2, Tokens = 3 }];
        using CacheFile file = OldCache.Open(Dict(("s", stacked), ("t", Dict(("k", stacked[0]), ("v", stacked[1])))));
        Holds(Mapped(file, Two, 2), ("s", 3, 0), ("t", 3, 0));
        using CacheFile alone = OldCache.Open(stacked);
        Holds(Mapped(alone, Two, 1), ("cache", 3, 0));
        using CacheFile token = OldCache.Open(Dict((0, new object[] { new OldTensor("lhtw") { Layers = 2 }, new OldTensor("lhtw", true) { Layers = 2 } })));
        Holds(Mapped(token, Two, 1), (CachePlace.Positions, 1, 0));

        // In any known order of the axes behind it, and in no other.
        using CacheFile other = OldCache.Open(Dict(("s", new object[] { new OldTensor("lthw") { Layers = 2, Tokens = 4 }, new OldTensor("lwht", true) { Layers = 2, Tokens = 4 } })));
        Counts(MappedCache.Of(other, Two), 0, 1, 0);
        using CacheFile rows = OldCache.Open(Dict(("s", new object[] { new OldTensor("lthw") { Layers = 2, Tokens = 3 }, new OldTensor("lthw", true) { Layers = 2, Tokens = 3 } })));
        Holds(Mapped(rows, Two, 1), ("s", 3, 0));

        // If the key names a layer, the first axis is a batch, even if it is as long as there are layers.
        object[] batch = [new OldTensor("bhtw") { Batch = 2, Tokens = 3 }, new OldTensor("bhtw", true) { Batch = 2, Tokens = 3 }];
        object[] next = [new OldTensor("bhtw") { Batch = 2, Tokens = 3, Layer = 1 }, new OldTensor("bhtw", true) { Batch = 2, Tokens = 3, Layer = 1 }];
        using CacheFile layers = OldCache.Open(Dict((Key("s", 0), batch), (Key("s", 1), next)));
        Holds(Mapped(layers, Two, 2), ("s[0]", 3, 0), ("s[1]", 3, 1));

        // Two in one, [2] before the layers.
        using CacheFile both = OldCache.Open(Dict(("s", new OldTensor("slhtw") { Layers = 2, Tokens = 3 })));
        Holds(Mapped(both, Two with { ValueWidth = KeyWidth }, 1), ("s", 3, 0));
    }

    [Theory]
    [InlineData("key_cache", "value_cache")]
    [InlineData("keys", "values")]
    public void Lists_of_keys_and_of_values_by_layer_are_one_sequence(string keys, string values)
    {
        object Half(bool isValue) => new List<object> { new OldTensor("bhtw", isValue) { Tokens = 3 }, new OldTensor("bhtw", isValue) { Tokens = 3, Layer = 1 } };
        (object, object)[] cache = Dict((keys, Half(false)), (values, Half(true)), ("_seen_tokens", 3));
        using CacheFile alone = OldCache.Open(cache);
        Holds(Mapped(alone, null, 1), ("cache", 3, 0));
        using CacheFile file = OldCache.Open(Dict(("s", cache), ("t", Dict((values, Half(true)), (keys, Half(false))))));
        Holds(Mapped(file, null, 2), ("s", 3, 0), ("t", 3, 0));
        using CacheFile tensors = OldCache.Open(Dict((keys, new OldTensor("bhtw") { Tokens = 3 }), (values, new OldTensor("bhtw", true) { Tokens = 3 }), ("note", "of a run")));
        Holds(Mapped(tensors, null, 1), ("cache", 3, 0));
    }

    [Fact]
    public void Lists_that_do_not_match_or_stand_beside_other_tensors_are_quarantined()
    {
        OldTensor one = new("bhtw") { Tokens = 3 };
        using CacheFile uneven = OldCache.Open(Dict(("s", Dict(("key_cache", new List<object> { one, one }), ("value_cache", new List<object> { one }))), ("good", Pair("bhtw", tokens: 3))));
        Counts(MappedCache.Of(uneven), 1, 1, 0);
        using CacheFile beside = OldCache.Open(Dict(("s", Dict(("k", one), ("v", one), ("mask", one))), ("good", Pair("bhtw", tokens: 3))));
        Counts(MappedCache.Of(beside), 1, 1, 0);

        // Two sequences have these names.
        using CacheFile names = OldCache.Open(Dict(("k", Pair("bhtw", tokens: 3)), ("v", Pair("bhtw", tokens: 3))));
        Holds(Mapped(names, null, 2), ("k", 3, 0), ("v", 3, 0));
    }

    [Fact]
    public void Rows_of_a_batch_are_sequences()
    {
        using CacheFile file = OldCache.Open(Dict(("s", new object[] { new OldTensor("bhtw") { Batch = 2, Tokens = 3 }, new OldTensor("bhtw", true) { Batch = 2, Tokens = 3 } }), ("s[0]", Pair("bhtw", tokens: 4))));
        Holds(Mapped(file, One, 2), ("s[0]", 3, 0), ("s[1]", 3, 1), ("s[0]'", 4, 0));
    }

    [Fact]
    public void Positions_reach_to_the_first_gap()
    {
        using CacheFile file = OldCache.Open(Dict((2, Pair("hw", token: 2)), (0, Pair("hw")), (5, Pair("hw", token: 5)), (1, Pair("hw", token: 1)), (-1, Pair("hw"))));
        MappedCache mapped = MappedCache.Of(file, One);
        Counts(mapped, 3, 2, 0);
        Holds(mapped, (CachePlace.Positions, 3, 0));
        Assert.Equal(["/5", "/-1"], mapped.Entries.Where(e => e.Outcome == EntryOutcome.Quarantined).Select(e => e.Path));
        Assert.All(mapped.Entries.Where(e => e.Outcome == EntryOutcome.Quarantined), e => Assert.Equal("position 3 is missing or lacks a layer", e.Reason));
    }

    [Fact]
    public void Tuples_name_session_layer_and_position()
    {
        using CacheFile layers = OldCache.Open(Dict((Key("s", 1), Pair("htw", tokens: 3, layer: 1)), (Key("s", 0), Pair("htw", tokens: 3))));
        Holds(Mapped(layers, null, 2), ("s", 3, 0));
        using CacheFile all = OldCache.Open(Dict((Key("s", 1, 0), Pair("hw", layer: 1)), (Key("s", 0, 0), Pair("hw")), (Key(0, 0), Pair("hw")), (Key(1, 0), Pair("hw", layer: 1))));
        Holds(Mapped(all, Two, 4), ("s", 1, 0), (CachePlace.Positions, 1, 0));
        using CacheFile tokens = OldCache.Open(Dict((Key("s", 1), Pair("hw", token: 1)), (Key("s", 0), Pair("hw"))));
        Holds(Mapped(tokens, One, 2), ("s", 2, 0));
    }

    [Fact]
    public void What_cannot_be_keys_and_values_is_quarantined_with_a_reason_and_decides_nothing()
    {
        using CacheFile file = OldCache.Open(Dict(
            ("good", Pair("bhtw", tokens: 3, type: ElementType.Float16)),
            ("flat", Pair("w")),
            ("int8", Pair("bhtw", tokens: 3, type: ElementType.Int8)),
            ("doubles", Pair("twt", tokens: 4, type: ElementType.Float64)),
            ("uneven", new object[] { new OldTensor("htw") { Tokens = 3 }, new OldTensor("htw", true) { Tokens = 4 } }),
            ("alone", new OldTensor("htw") { Tokens = 3 }),
            ("three", new object[] { new OldTensor("hw"), new OldTensor("hw"), new OldTensor("hw") }),
            ("text", "nothing"),
            ("numbers", new object[] { 1, 2 })));
        MappedCache mapped = MappedCache.Of(file);
        Counts(mapped, 1, 6, 2);
        Assert.Equal(One, mapped.Geometry);
        Holds(mapped, ("good", 3, 0));
        Assert.Equal([ElementType.Float16], mapped.Sequences[0].ElementTypes);
        Assert.Equal(
            [
                ("/'flat'", "a tensor of 1 dimension, what the old compressor left"), ("/'int8'", "int8 without scales"), ("/'doubles'", "no axes of 2 heads and widths 5 and 3"),
                ("/'uneven'", "not the same tokens, one at least, in keys and values of every layer"), ("/'alone'", "one tensor for keys and values, whose axes a declared geometry has to tell apart"),
                ("/'three'", "no pairs of keys and values"), ("/'text'", "no tensor"), ("/'numbers'", "no tensor"),
            ],
            mapped.Entries.Where(e => e.Outcome != EntryOutcome.Imported).Select(e => (e.Path, e.Reason!)));
    }

    [Fact]
    public void Layers_that_are_missing_doubled_or_uneven_are_quarantined()
    {
        using CacheFile file = OldCache.Open(Dict(
            (Key("gap", 1), Pair("htw", tokens: 3, layer: 1)),
            (Key("beyond", 2), Pair("htw", tokens: 3)),
            (Key("uneven", 0), Pair("htw", tokens: 3)),
            (Key("uneven", 1), Pair("htw", tokens: 4)),
            ("few", Pair("htw", tokens: 3)),
            (Key("s", 0), Pair("htw", tokens: 3)),
            (Key("s", 1), Pair("htw", tokens: 3, layer: 1)),
            ("s", new List<object> { Pair("htw", tokens: 3), Pair("htw", tokens: 3, layer: 1) })));
        MappedCache mapped = MappedCache.Of(file, Two);
        Counts(mapped, 2, 6, 0);
        Holds(mapped, ("s", 3, 0));
    }

    [Fact]
    public void A_tensor_alone_is_keys_and_values_where_a_declared_shape_leaves_no_choice()
    {
        ImportGeometry same = One with { ValueWidth = KeyWidth };
        using CacheFile file = OldCache.Open(Dict(("s", new OldTensor("shtw") { Tokens = 3 }), ("t", new OldTensor("shtw") { Tokens = Heads })));
        Counts(MappedCache.Of(file), 0, 2, 0);
        Assert.Null(MappedCache.Of(file).Geometry);
        MappedCache mapped = MappedCache.Of(file, same);
        Counts(mapped, 1, 1, 0);
        Holds(mapped, ("s", 3, 0));
        Assert.Equal("one tensor for keys and values, two of whose axes are of one size", mapped.Entries[1].Reason);
    }

    [Fact]
    public void Where_values_are_keys_a_tensor_alone_is_both()
    {
        using CacheFile file = OldCache.Open(Dict(("s", new OldTensor("htw") { Tokens = 3 })));
        MappedCache mapped = Mapped(file, One with { ValueWidth = KeyWidth, ValuesAreKeys = true }, 1);
        float[] keys = new float[3 * Heads * KeyWidth];
        float[] values = new float[keys.Length];
        mapped.Sequences[0].Read(0, 0, 3, keys, values);
        Assert.Equal(keys, values);
        Assert.Equal(Number(0, 0, 2, 1, 4, false), keys[^1]);
    }

    [Fact]
    public void Without_axes_that_say_something_all_is_quarantined()
    {
        using CacheFile file = OldCache.Open(Dict(("s", Pair("bbhtwt", tokens: 3))));
        MappedCache mapped = MappedCache.Of(file);
        Counts(mapped, 0, 1, 0);
        Assert.Empty(mapped.Sequences);
        Assert.Null(mapped.Geometry);
    }

    private static (object Key, object Value)[] Dict(params (object Key, object Value)[] items) => items;

    private static object[] Key(params object[] parts) => parts;

    private static object[] Pair(string axes, int tokens = 1, int layer = 0, int token = 0, ElementType type = ElementType.Float32) =>
        new[] { false, true }.Select(isValue => (object)new OldTensor(axes, isValue, type) { Tokens = tokens, Layer = layer, Token = token }).ToArray();

    private static MappedCache Mapped(CacheFile file, ImportGeometry? shape, int entries)
    {
        MappedCache mapped = MappedCache.Of(file, shape);
        Counts(mapped, entries, 0, 0);
        return mapped;
    }

    private static void Counts(MappedCache mapped, int imported, int quarantined, int refused)
    {
        Assert.Equal(
            (imported, quarantined, refused),
            (mapped.Count(EntryOutcome.Imported), mapped.Count(EntryOutcome.Quarantined), mapped.Count(EntryOutcome.Refused)));
        Assert.Equal(mapped.Entries.Count, imported + quarantined + refused);
        Assert.All(mapped.Entries, e => Assert.Equal(e.Outcome == EntryOutcome.Imported, e.Reason is null));
    }

    private static void Holds(MappedCache mapped, params (string Name, int Tokens, int Row)[] expected)
    {
        Assert.Equal(expected.Select(e => (e.Name, e.Tokens)), mapped.Sequences.Select(s => (s.Name, s.Tokens)));
        ImportGeometry shape = mapped.Geometry!;
        foreach (((_, int tokens, int row), MappedSequence sequence) in expected.Zip(mapped.Sequences))
        {
            for (int layer = 0; layer < shape.Layers; layer++)
            {
                float[] keys = new float[tokens * shape.Heads * shape.KeyWidth];
                float[] values = new float[tokens * shape.Heads * shape.ValueWidth];
                sequence.Read(layer, 0, tokens, keys, values);
                Assert.Equal(Numbers(row, layer, tokens, shape.KeyWidth, false), keys);
                Assert.Equal(Numbers(row, layer, tokens, shape.ValueWidth, true), values);
            }
        }
    }

    // As [tokens][heads][width].
    private static float[] Numbers(int row, int layer, int tokens, int width, bool isValue) =>
    [
        .. from token in Enumerable.Range(0, tokens)
           from head in Enumerable.Range(0, Heads)
           from column in Enumerable.Range(0, width)
           select Number(row, layer, token, head, column, isValue),
    ];
}
