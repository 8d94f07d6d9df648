namespace KvCacheGpu.Llama.Tests;

/// <summary>tokenizer.model: pieces merged by score, spaces as letters, bytes for characters that have no piece.</summary>
public sealed class SentencePieceTests
{
    [Theory]
    [InlineData("the inner", "▁the|▁in|n|er")]
    [InlineData(" the", "▁|▁the")]
    [InlineData("  the  ", "▁▁|▁the|▁▁")]
    [InlineData("zthe", "▁|<0x7A>|the")]
    [InlineData("bé世\n", "▁|b|é|<0xE4>|<0xB8>|<0x96>|<0x0A>")]
    [InlineData("🙂", "▁|<0xF0>|<0x9F>|<0x99>|<0x82>")]
    [InlineData("the</s>the", "▁the|</s>|the")]
    [InlineData("</s> the", "</s>|▁the")]
    [InlineData("<0x41>", "▁|<0x3C>|<0x30>|<0x78>|<0x34>|<0x31>|<0x3E>")]
    [InlineData("", "")]
    public void Text_becomes_the_pieces_of_highest_score_and_comes_back(string text, string expected)
    {
        TinyPieces pieces = new();
        LlamaTokenizer tokenizer = Load(pieces);
        int[] ids = tokenizer.Encode(text, start: false);
        Assert.Equal(expected, string.Join('|', ids.Select(i => pieces.Pieces[i].Text)));
        Assert.Equal(text, tokenizer.Decode(ids, includeSpecial: true));
        Assert.Equal([1, .. ids], tokenizer.Encode(text));
        Assert.Equal(text.Replace("</s>", string.Empty, StringComparison.Ordinal).TrimStart(), tokenizer.Decode(ids).TrimStart());
    }

    [Fact]
    public void What_stands_for_text_that_cannot_be_spelled_is_left_out_of_text()
    {
        LlamaTokenizer tokenizer = Load(new TinyPieces());
        Assert.True(tokenizer.IsSpecial(0));
        Assert.Equal(tokenizer.Decode(tokenizer.Encode("the inner")), tokenizer.Decode([.. tokenizer.Encode("the inner"), 0]));
        Assert.Equal("<unk>", tokenizer.Decode(tokenizer.Encode("<unk>", start: false)));
    }

    [Fact]
    public void A_model_that_adds_no_space_keeps_those_that_are_there()
    {
        TinyPieces pieces = new() { AddsSpace = false };
        LlamaTokenizer tokenizer = Load(pieces);
        int[] ids = tokenizer.Encode(" the inner", start: false);
        Assert.Equal("▁the|▁in|n|er", string.Join('|', ids.Select(i => pieces.Pieces[i].Text)));
        Assert.Equal(" the inner", tokenizer.Decode(ids));
    }

    [Fact]
    public void Merges_go_by_score_not_by_order_in_the_file()
    {
        TinyPieces pieces = new();
        int at = pieces.Pieces.FindIndex(p => p.Text == "in");
        pieces.Pieces[at] = ("in", -50, 1);
        pieces.Pieces.Add(("nn", -2.5f, 1));
        LlamaTokenizer tokenizer = Load(pieces);
        Assert.Equal("▁|i|nn|er", string.Join('|', tokenizer.Encode("inner", start: false).Select(i => pieces.Pieces[i].Text)));
    }

    [Fact]
    public void Pieces_that_are_never_cut_and_added_tokens_are_found_whole()
    {
        TinyPieces pieces = new();
        pieces.Pieces.Add(("<b>\u2581", 0, 4));
        using TempFolder folder = new();
        File.WriteAllBytes(Path.Combine(folder.Path, "tokenizer.model"), pieces.ToBytes());
        folder.Write("added_tokens.json", $$"""{"<end>":{{pieces.Pieces.Count}},"</s>":2}""");
        LlamaTokenizer tokenizer = LlamaTokenizer.Load(folder.Path, Config(pieces.Pieces.Count + 1))!;
        int[] ids = tokenizer.Encode("a<b> b<end>", start: false);
        Assert.Equal([Id("▁a"), pieces.Pieces.Count - 1, Id("b"), pieces.Pieces.Count], ids);
        Assert.Equal("a<b> b<end>", tokenizer.Decode(ids));
        folder.Write("added_tokens.json", """{"<end>":5}""");
        Assert.Equal("E004", Assert.Throws<LlamaFormatException>(() => LlamaTokenizer.Load(folder.Path, Config(400))).Code);

        int Id(string text) => pieces.Pieces.FindIndex(p => p.Text == text);
    }

    [Fact]
    public void Without_bytes_what_has_no_piece_is_refused_rather_than_lost()
    {
        TinyPieces pieces = new() { ByteFallback = false };
        pieces.Pieces.RemoveAll(p => p.Kind == 6);
        LlamaTokenizer tokenizer = Load(pieces);
        Assert.Equal(3, tokenizer.Encode("the in").Length);
        Assert.Throws<ArgumentException>(() => tokenizer.Encode("the z"));
    }

    [Fact]
    public void It_goes_before_a_tokenizer_json_that_was_made_from_it_and_after_any_other()
    {
        using TempFolder folder = new();
        TinyPieces pieces = new();
        File.WriteAllBytes(Path.Combine(folder.Path, "tokenizer.model"), pieces.ToBytes());
        folder.Write("tokenizer.json", """{"model":{"type":"BPE","byte_fallback":true,"vocab":{"a":0},"merges":[]}}""");
        Assert.Equal(pieces.Pieces.Count, LlamaTokenizer.Load(folder.Path, Config(400))!.Vocabulary.Count);
        folder.Write("tokenizer.json", """{"model":{"type":"BPE","vocab":{"a":0},"merges":[]},"pre_tokenizer":{"type":"ByteLevel"}}""");
        Assert.Single(LlamaTokenizer.Load(folder.Path, Config(400))!.Vocabulary);
    }

    public static TheoryData<string, string, string> Refusals => new()
    {
        { "unigram", "E009", "trainer_spec.model_type: only bpe is supported, got unigram" },
        { "characters", "E009", "normalizer_spec: only identity is supported, got nmt_nfkc" },
        { "spaces", "E009", "remove_extra_whitespaces" },
        { "escapes", "E009", "escape_whitespaces" },
        { "suffix", "E009", "treat_whitespace_as_suffix" },
        { "byte", "E004", "none for 0x0a" },
        { "bytes", "E004", "bytes as <0x0A>" },
        { "twice", "E004", "each piece once" },
        { "kind", "E004", "kind 9" },
        { "unknown", "E004", "one that is unknown" },
        { "unused", "E009", "pieces in use" },
        { "many", "E004", "1..300, as config.json has it" },
        { "empty", "E004", "size" },
        { "cut", "E004", "protobuf" },
        { "text", "E004", "got 0" },
    };

    [Theory]
    [MemberData(nameof(Refusals))]
    public void Others_and_broken_ones_are_refused_in_one_line(string what, string code, string message)
    {
        TinyPieces pieces = new();
        int newline = pieces.Pieces.FindIndex(p => p.Text == "<0x0A>");
        switch (what)
        {
            case "unigram": pieces.ModelType = 1; break;
            case "characters": pieces.CharacterMap = [1, 2, 3]; break;
            case "spaces": pieces.RemovesSpaces = true; break;
            case "escapes": pieces.EscapesSpaces = false; break;
            case "suffix": pieces.SuffixSpaces = true; break;
            case "byte": pieces.Pieces.RemoveAt(newline); break;
            case "bytes": pieces.Pieces[newline] = ("<0xZZ>", 0, 6); break;
            case "twice": pieces.Pieces.Add(("the", 0, 1)); break;
            case "kind": pieces.Pieces.Add(("other", 0, 9)); break;
            case "unused": pieces.Pieces.Add(("<other>", 0, 5)); break;
            case "unknown": pieces.Pieces.Add(("<other>", 0, 2)); break;
            case "many": pieces.Pieces.AddRange(Enumerable.Range(0, 50).Select(i => ($"x{i}", -99f, 1))); break;
        }

        byte[] bytes = pieces.ToBytes();
        bytes = what switch { "empty" => [], "cut" => bytes[..^3], "text" => "IQ== 0\nIg== 1\n"u8.ToArray(), _ => bytes };
        using TempFolder folder = new();
        File.WriteAllBytes(Path.Combine(folder.Path, "tokenizer.model"), bytes);
        LlamaFormatException error = Assert.Throws<LlamaFormatException>(() => LlamaTokenizer.Load(folder.Path, Config(300)));
        Assert.StartsWith($"{code}: tokenizer.model: ", error.Message, StringComparison.Ordinal);
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', error.Message);
    }

    private static LlamaTokenizer Load(TinyPieces pieces)
    {
        using TempFolder folder = new();
        File.WriteAllBytes(Path.Combine(folder.Path, "tokenizer.model"), pieces.ToBytes());
        return LlamaTokenizer.Load(folder.Path, Config(pieces.Pieces.Count))!;
    }

    private static LlamaConfig Config(int vocabulary)
    {
        using TinyCheckpoint shape = new(vocabulary: vocabulary);
        shape.Config["bos_token_id"] = 1;
        shape.Config["eos_token_id"] = 2;
        shape.Write();
        return LlamaConfig.Load(Path.Combine(shape.Path, "config.json"));
    }
}
