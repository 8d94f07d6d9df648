using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;

namespace KvCacheGpu.Llama.Tests;

/// <summary>Every kind of tokenizer against ids that the libraries they come from made: runs of one character, marks, letters beyond U+FFFF, added tokens.</summary>
public sealed class ReferenceTests
{
    public static TheoryData<string> Kinds => [.. References.Kinds];

    [Theory]
    [MemberData(nameof(Kinds))]
    public void A_tokenizer_json_gives_the_ids_that_hugging_face_gives(string kind)
    {
        LlamaTokenizer tokenizer = References.Load(References.Json(kind));
        (string Text, int[] Ids)[] rows = References.Ids(kind);
        Assert.InRange(rows.Length, 200, int.MaxValue);
        Compare(rows, text => tokenizer.Encode(text));
    }

    [Fact]
    public void A_tokenizer_model_gives_the_ids_that_sentencepiece_gives()
    {
        using TempFolder folder = new();
        File.WriteAllBytes(Path.Combine(folder.Path, "tokenizer.model"), References.Bytes("spm.model"));
        LlamaTokenizer tokenizer = LlamaTokenizer.Load(folder.Path, References.Config.Value)!;
        (string Text, int[] Ids)[] rows = References.Ids("spm");
        Assert.InRange(rows.Length, 200, int.MaxValue);
        Compare(rows, text => tokenizer.Encode(text));
        foreach ((string text, int[] ids) in rows)
        {
            Assert.Equal(text, tokenizer.Decode(ids, includeSpecial: true));
        }
    }

    [Theory]
    [InlineData("Qwen2Tokenizer", "qwen2")]
    [InlineData("GPT2TokenizerFast", "gpt2")]
    public void A_pair_of_files_cuts_words_as_the_named_class_does(string name, string kind)
    {
        JsonObject json = References.Json(kind);
        JsonObject decoder = [];
        foreach (JsonNode? token in json["added_tokens"]!.AsArray())
        {
            decoder[token!["id"]!.ToString()] = token.DeepClone();
        }

        using TempFolder folder = new();
        folder.Write("vocab.json", json["model"]!["vocab"]!.ToJsonString());
        folder.Write("merges.txt", "#version: 0.2\n" + string.Join('\n', json["model"]!["merges"]!.AsArray().Select(m => $"{m![0]} {m[1]}")) + "\n");
        folder.Write("tokenizer_config.json", new JsonObject
        {
            ["tokenizer_class"] = name,
            ["add_prefix_space"] = kind == "gpt2",
            ["add_bos_token"] = false,
            ["added_tokens_decoder"] = decoder,
        }.ToJsonString());
        LlamaTokenizer tokenizer = LlamaTokenizer.Load(folder.Path, References.Config.Value)!;
        Compare(References.Ids(kind), text => tokenizer.Encode(text));
    }

    [Fact]
    public void Form_C_is_unicode_s()
    {
        foreach ((string text, string composed) in References.Texts("composed.json"))
        {
            Assert.Equal(composed, ComposedText.Of(text));
            Assert.Equal(composed, ComposedText.Of(composed));
        }
    }

    [Fact]
    public void Form_C_changes_the_code_points_that_unicode_changes()
    {
        // By Python's unicodedata: each code point that form C changes, and what it becomes, a line each in hexadecimal.
        StringBuilder changed = new();
        int count = 0;
        for (int code = 0; code <= 0x10ffff; code += code == 0xd7ff ? 0x801 : 1)
        {
            string text = char.ConvertFromUtf32(code);
            string composed = ComposedText.Of(text);
            if (composed != text)
            {
                changed.Append($"{code:X} {string.Join(' ', composed.EnumerateRunes().Select(r => $"{r.Value:X}"))}\n");
                count++;
            }
        }

        Assert.Equal(1120, count);
        Assert.Equal("880228eebbb43fee0ea2ca82e7f96691500f776a4f4ab8a7306581f079788827", Convert.ToHexStringLower(SHA256.HashData(Encoding.ASCII.GetBytes(changed.ToString()))));
    }

    private static void Compare((string Text, int[] Ids)[] rows, Func<string, int[]> encode)
    {
        List<string> wrong = [];
        foreach ((string text, int[] expected) in rows)
        {
            int[] got = encode(text);
            if (!got.AsSpan().SequenceEqual(expected))
            {
                wrong.Add($"{string.Join(' ', text.EnumerateRunes().Select(r => $"{r.Value:X}"))}: expected {string.Join(',', expected)}, got {string.Join(',', got)}");
            }
        }

        Assert.True(wrong.Count == 0, $"{wrong.Count} of {rows.Length} differ:\n{string.Join('\n', wrong.Take(5))}");
    }
}
