using System.Text.Json.Nodes;
using KvCacheGpu.Evaluation;

namespace KvCacheGpu.Llama.Tests;

/// <summary>Text to tokens and back, from both kinds of files.</summary>
public sealed class TokenizerTests
{
    private const string Gpt2 = """{"tokenizer_class":"GPT2Tokenizer"}""";

    private static readonly LlamaConfig DemoConfig = LlamaConfig.Load(Path.Combine(DemoModel.Directory, "config.json"));

    [Fact]
    public void The_held_out_document_is_37500_tokens_and_comes_back_exactly()
    {
        LlamaTokenizer tokenizer = LlamaTokenizer.Load(DemoModel.Directory, DemoConfig)!;
        string text = DemoModel.ReadDocument();
        int[] ids = tokenizer.Encode(text, start: false);
        Assert.Equal(37_500, ids.Length);
        Assert.Equal(text, tokenizer.Decode(ids));
    }

    [Fact]
    public void Any_text_comes_back_after_the_token_that_starts_it()
    {
        LlamaTokenizer tokenizer = LlamaTokenizer.Load(DemoModel.Directory, DemoConfig)!;
        const string Text = " Grüße, 世界 🙂\r\n\tx  42 _ end ";
        int[] ids = tokenizer.Encode(Text);
        Assert.Equal(0, ids[0]);
        Assert.Equal(Text, tokenizer.Decode(ids));
        Assert.Equal("<bos>" + Text, tokenizer.Decode(ids, includeSpecial: true));
        Assert.Equal([0], tokenizer.Encode(string.Empty));
        Assert.Equal([0, 1], tokenizer.Encode("<eos>"));
        Assert.Throws<ArgumentOutOfRangeException>(() => tokenizer.Decode([1024]));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Tokenizer_json_gives_the_same_tokens_in_both_forms_of_merges(bool pairs)
    {
        string text = DemoModel.ReadDocument()[..20_000];
        int[] expected = LlamaTokenizer.Load(DemoModel.Directory, DemoConfig)!.Encode(text);
        using TempFolder folder = new();
        folder.Write("tokenizer.json", DemoTokenizerJson(pairs).ToJsonString());
        LlamaTokenizer tokenizer = LlamaTokenizer.Load(folder.Path, DemoConfig)!;
        int[] ids = tokenizer.Encode(text);
        Assert.Equal(expected, ids);
        Assert.Equal(text, tokenizer.Decode(ids));
        Assert.Equal([0, 1], tokenizer.Encode("<eos>"));
    }

    [Fact]
    public void Byte_level_splits_as_gpt2_does_where_the_file_says_nothing_else()
    {
        JsonObject json = DemoTokenizerJson(pairs: false);
        json["pre_tokenizer"] = new JsonObject { ["type"] = "ByteLevel", ["add_prefix_space"] = true, ["use_regex"] = true };
        using TempFolder folder = new();
        folder.Write("tokenizer.json", json.ToJsonString());
        LlamaTokenizer tokenizer = LlamaTokenizer.Load(folder.Path, DemoConfig)!;
        Assert.Equal(" And the LORD", tokenizer.Decode(tokenizer.Encode("And the LORD")));
        Assert.Equal(tokenizer.Encode(" And the LORD"), tokenizer.Encode("And the LORD"));
    }

    [Fact]
    public void Added_tokens_beyond_the_vocabulary_are_found_in_text_longest_first()
    {
        JsonObject json = DemoTokenizerJson(pairs: false);
        json["model"]!["vocab"]!.AsObject().Remove("<eos>");
        json["added_tokens"] = new JsonArray(
            new JsonObject { ["id"] = 1, ["content"] = "<e>", ["special"] = true }, new JsonObject { ["id"] = 1024, ["content"] = "<e><e>", ["special"] = false });
        using TempFolder folder = new();
        folder.Write("tokenizer.json", json.ToJsonString());
        using TinyCheckpoint shape = new(vocabulary: 1025);
        shape.Write();
        LlamaTokenizer tokenizer = LlamaTokenizer.Load(folder.Path, LlamaConfig.Load(Path.Combine(shape.Path, "config.json")))!;
        int[] ids = tokenizer.Encode("the<e><e><e>", start: false);
        Assert.Equal([1024, 1], ids[^2..]);
        Assert.Equal("the<e><e>", tokenizer.Decode(ids));
    }

    [Fact]
    public void A_byte_that_the_vocabulary_lacks_is_refused_rather_than_lost()
    {
        using TempFolder folder = new();
        folder.Write("vocab.json", """{"a":2,"b":3,"ab":4}""");
        folder.Write("merges.txt", "#version: 0.2\na b\n");
        folder.Write("tokenizer_config.json", Gpt2);
        LlamaTokenizer tokenizer = LlamaTokenizer.Load(folder.Path, DemoConfig)!;
        Assert.Equal([4, 2], tokenizer.Encode("aba", start: false));
        Assert.Contains("0x63", Assert.Throws<ArgumentException>(() => tokenizer.Encode("abc")).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("model", """{"type":"Unigram","vocab":{},"merges":[]}""", "E009")]
    [InlineData("model", """{"type":"BPE","dropout":0.1,"vocab":{"a":0},"merges":[]}""", "E009")]
    [InlineData("model", """{"type":"BPE","continuing_subword_prefix":"##","vocab":{"a":0},"merges":[]}""", "E009")]
    [InlineData("model", """{"type":"BPE","end_of_word_suffix":"</w>","vocab":{"a":0},"merges":[]}""", "E009")]
    [InlineData("model", """{"type":"BPE","vocab":{"a":0,"":1},"merges":[["","a"]]}""", "E004")]
    [InlineData("model", """{"type":"BPE","vocab":{"a":0},"merges":["a b"]}""", "E004")]
    [InlineData("model", """{"type":"BPE","vocab":{"a":0,"b":0},"merges":[]}""", "E004")]
    [InlineData("model", """{"type":"BPE","vocab":{"a":0,"a":1},"merges":[]}""", "E004")]
    [InlineData("model", """{"type":"BPE","vocab":{"a":1024},"merges":[]}""", "E004")]
    [InlineData("model", """{"type":"BPE","vocab":{"a":0},"merges":[["a"]]}""", "E004")]
    [InlineData("model", "7", "E004")]
    [InlineData("normalizer", """{"type":"NFKC"}""", "E009")]
    [InlineData("normalizer", """{"type":"Replace","pattern":{"Regex":" "},"content":"_"}""", "E009")]
    [InlineData("normalizer", """{"type":"Sequence","normalizers":[{"type":"Lowercase"}]}""", "E009")]
    [InlineData("normalizer", """{"type":"Sequence","normalizers":{}}""", "E004")]
    [InlineData("normalizer", "7", "E004")]
    [InlineData("decoder", """{"type":"WordPiece"}""", "E009")]
    [InlineData("post_processor", """{"type":"BertProcessing"}""", "E009")]
    [InlineData("post_processor", """{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A"}},{"SpecialToken":{"id":"<eos>"}}]}""", "E009")]
    [InlineData("post_processor", """{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<eos>"}},{"Sequence":{"id":"A"}}],"special_tokens":{"<eos>":{"ids":[9999]}}}""", "E004")]
    [InlineData("pre_tokenizer", """{"type":"Sequence","pretokenizers":[{"type":"ByteLevel"},{"type":"Digits"}]}""", "E009")]
    [InlineData("pre_tokenizer", """{"type":"Sequence","pretokenizers":[{"type":"Digits"},{"type":"Metaspace"}]}""", "E009")]
    [InlineData("pre_tokenizer", """{"type":"Split","pattern":{"Regex":"a$"},"behavior":"Isolated"}""", "E009")]
    [InlineData("pre_tokenizer", """{"type":"Metaspace"}""", "E009")]
    [InlineData("pre_tokenizer", """{"type":"Split","pattern":{"Regex":"(("},"behavior":"Isolated"}""", "E004")]
    [InlineData("pre_tokenizer", """{"type":"Split","pattern":{"Regex":"a"},"behavior":"MergedWithNext"}""", "E009")]
    [InlineData("pre_tokenizer", """{"type":"Sequence","pretokenizers":[3]}""", "E004")]
    [InlineData("added_tokens", """[{"id":5,"content":"<x>"}]""", "E004")]
    [InlineData("added_tokens", """[5]""", "E004")]
    public void Other_or_malformed_tokenizers_are_refused_in_one_line(string key, string value, string code)
    {
        string json = $"{{\"{key}\":{value},{string.Join(',', DemoTokenizerJson(false).Where(p => p.Key != key).Select(p => $"\"{p.Key}\":{p.Value?.ToJsonString() ?? "null"}"))}}}";
        using TempFolder folder = new();
        folder.Write("tokenizer.json", json);
        LlamaFormatException error = Assert.Throws<LlamaFormatException>(() => LlamaTokenizer.Load(folder.Path, DemoConfig));
        Assert.Equal(code, error.Code);
        Assert.DoesNotContain('\n', error.Message);
    }

    [Fact]
    public void Words_that_are_tokens_need_no_merges_where_the_file_ignores_them()
    {
        JsonObject json = DemoTokenizerJson(pairs: false);
        JsonObject model = json["model"]!.AsObject();
        model["vocab"]!["Ġthequick"] = 1024;
        using TinyCheckpoint shape = new(vocabulary: 1025);
        LlamaConfig config = LlamaConfig.Load(Path.Combine(shape.Write().Path, "config.json"));
        string text = DemoModel.ReadDocument()[..5000] + " thequick thequicker 世";
        int[] merged = Encode();
        Assert.DoesNotContain(1024, merged);
        model["ignore_merges"] = true;
        int[] whole = Encode();
        Assert.Single(whole, id => id == 1024);
        Assert.Equal(merged[..100], whole[..100]);

        int[] Encode()
        {
            using TempFolder folder = new();
            folder.Write("tokenizer.json", json.ToJsonString());
            LlamaTokenizer tokenizer = LlamaTokenizer.Load(folder.Path, config)!;
            int[] ids = tokenizer.Encode(text);
            Assert.Equal(text, tokenizer.Decode(ids));
            return ids;
        }
    }

    [Fact]
    public void Text_is_composed_where_the_file_says_so()
    {
        JsonObject json = DemoTokenizerJson(pairs: false);
        json["normalizer"] = new JsonObject { ["type"] = "NFC" };
        using TempFolder folder = new();
        folder.Write("tokenizer.json", json.ToJsonString());
        LlamaTokenizer tokenizer = LlamaTokenizer.Load(folder.Path, DemoConfig)!;
        Assert.Equal("caf\u00e9 \u00c5 \ud558 \u1f7a", tokenizer.Decode(tokenizer.Encode("cafe\u0301 \u212b \u1112\u1161 \u03c5\u0300")));
        Assert.Equal("x\u0304 \u0644\u064e\u0651", tokenizer.Decode(tokenizer.Encode("x\u0304 \u0644\u0651\u064e")));
    }

    [Fact]
    public void Whether_texts_start_with_a_token_is_the_tokenizer_s_word_or_the_architecture_s()
    {
        using TempFolder folder = new();
        folder.Write("vocab.json", """{"a":3}""");
        folder.Write("merges.txt", "#version: 0.2\n");
        folder.Write("tokenizer_config.json", Gpt2);
        using TinyCheckpoint qwen = new(architecture: "Qwen2ForCausalLM");
        LlamaConfig config = LlamaConfig.Load(Path.Combine(qwen.Write().Path, "config.json"));
        Assert.Equal([0, 3], LlamaTokenizer.Load(folder.Path, DemoConfig)!.Encode("a"));
        Assert.Equal([3], LlamaTokenizer.Load(folder.Path, config)!.Encode("a"));
        folder.Write("tokenizer_config.json", """{"tokenizer_class":"GPT2Tokenizer","add_bos_token":true}""");
        Assert.Equal([0, 3], LlamaTokenizer.Load(folder.Path, config)!.Encode("a"));
        folder.Write("tokenizer_config.json", """{"tokenizer_class":"GPT2Tokenizer","add_bos_token":false}""");
        Assert.Equal([3], LlamaTokenizer.Load(folder.Path, DemoConfig)!.Encode("a"));
    }

    [Fact]
    public void What_a_file_puts_before_texts_goes_before_the_architecture_and_after_the_settings()
    {
        JsonObject json = DemoTokenizerJson(pairs: false);
        using TempFolder folder = new();
        Assert.Equal([0], Encode("""{"type":"Sequence","processors":[{"type":"ByteLevel"},{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<bos>"}},{"Sequence":{"id":"A"}}],"special_tokens":{"<bos>":{"ids":[0]}}}]}"""));
        Assert.Equal([1], Encode("""{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<eos>"}},{"Sequence":{"id":"A"}}],"special_tokens":{"<eos>":{"ids":[1]}}}"""));
        Assert.Equal([], Encode("""{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A"}}]}"""));
        Assert.Equal([], Encode("""{"type":"ByteLevel","trim_offsets":false}"""));
        folder.Write("tokenizer_config.json", """{"add_bos_token":true}""");
        Assert.Equal([0], Encode("""{"type":"ByteLevel","trim_offsets":false}"""));

        int[] Encode(string processor)
        {
            json["post_processor"] = JsonNode.Parse(processor);
            folder.Write("tokenizer.json", json.ToJsonString());
            return LlamaTokenizer.Load(folder.Path, DemoConfig)!.Encode(string.Empty);
        }
    }

    [Theory]
    [InlineData(null, "nothing says how words are cut")]
    [InlineData("LlamaTokenizer", "got LlamaTokenizer")]
    public void Two_files_that_do_not_say_how_words_are_cut_are_refused(string? name, string message)
    {
        using TempFolder folder = new();
        folder.Write("vocab.json", """{"a":2,"b":3,"ab":4}""");
        folder.Write("merges.txt", "a b\n");
        if (name is not null)
        {
            folder.Write("tokenizer_config.json", $$"""{"tokenizer_class":"{{name}}"}""");
        }

        LlamaFormatException error = Assert.Throws<LlamaFormatException>(() => LlamaTokenizer.Load(folder.Path, DemoConfig));
        Assert.Equal("E009", error.Code);
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Added_tokens_beside_two_files_are_those_of_the_settings_and_of_the_list()
    {
        using TempFolder folder = new();
        folder.Write("vocab.json", """{"a":2,"b":3,"ab":4,"<e>":5}""");
        folder.Write("merges.txt", "a b\n");
        folder.Write("tokenizer_config.json", """{"tokenizer_class":"GPT2Tokenizer","added_tokens_decoder":{"5":{"content":"<e>","rstrip":true,"special":true}}}""");
        folder.Write("added_tokens.json", """{"<e>":5,"<f>":6}""");
        LlamaTokenizer tokenizer = LlamaTokenizer.Load(folder.Path, DemoConfig)!;
        Assert.Equal([4, 5, 4, 6], tokenizer.Encode("ab<e>  ab<f>", start: false));
        Assert.Equal("abab<f>", tokenizer.Decode([4, 5, 4, 6]));
        folder.Write("added_tokens.json", """{"<f>":4}""");
        Assert.Equal("E004", Assert.Throws<LlamaFormatException>(() => LlamaTokenizer.Load(folder.Path, DemoConfig)).Code);
    }

    [Fact]
    public void Half_a_pair_of_files_is_refused_and_none_is_no_tokenizer()
    {
        using TempFolder folder = new();
        Assert.Null(LlamaTokenizer.Load(folder.Path, DemoConfig));
        folder.Write("vocab.json", """{"a":0}""");
        Assert.Equal("E002", Assert.Throws<LlamaFormatException>(() => LlamaTokenizer.Load(folder.Path, DemoConfig)).Code);
    }

    private static JsonObject DemoTokenizerJson(bool pairs)
    {
        IEnumerable<string> merges = File.ReadLines(Path.Combine(DemoModel.Directory, "merges.txt")).Skip(1);
        JsonArray list = [.. merges.Select(m => pairs ? new JsonArray([.. m.Split(' ').Select(p => (JsonNode)p)]) : (JsonNode)JsonValue.Create(m))];
        return new JsonObject
        {
            ["version"] = "1.0",
            ["added_tokens"] = new JsonArray(
                new JsonObject { ["id"] = 0, ["content"] = "<bos>", ["special"] = true }, new JsonObject { ["id"] = 1, ["content"] = "<eos>", ["special"] = true }),
            ["normalizer"] = null,
            ["pre_tokenizer"] = new JsonObject
            {
                ["type"] = "Sequence",
                ["pretokenizers"] = new JsonArray(
                    new JsonObject
                    {
                        ["type"] = "Split",
                        ["pattern"] = new JsonObject { ["Regex"] = """ ?[A-Za-z]+| ?[0-9]| ?[^\sA-Za-z0-9]|\s+""" },
                        ["behavior"] = "Isolated",
                        ["invert"] = false,
                    },
                    new JsonObject { ["type"] = "ByteLevel", ["add_prefix_space"] = false, ["use_regex"] = false }),
            },
            ["model"] = new JsonObject
            {
                ["type"] = "BPE",
                ["vocab"] = JsonNode.Parse(File.ReadAllText(Path.Combine(DemoModel.Directory, "vocab.json"))),
                ["merges"] = list,
            },
        };
    }
}
