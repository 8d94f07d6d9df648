using System.Text.Json.Nodes;
using KvCacheGpu.Evaluation;

namespace KvCacheGpu.Llama.Tests;

/// <summary>Checkpoints that are served; all others are refused by a typed error in one line, before memory is allocated.</summary>
public sealed class CheckpointTests
{
    [Theory]
    [InlineData("F32")]
    [InlineData("F16")]
    [InlineData("BF16")]
    public void Every_weight_type_loads(string type)
    {
        using TinyCheckpoint checkpoint = new(type: type, tied: false);
        using LlamaModel model = checkpoint.Write().Load();
        Assert.Null(model.Tokenizer);
        Assert.Equal(50, model.Config.VocabularySize);
        Assert.Equal([1, 2], model.Config.EosTokenIds);
        Assert.Equal(0, model.Config.BosTokenId);
        Assert.Equal(8, model.Geometry(16).KeyWidth);
        Assert.Equal(Path.GetFileName(checkpoint.Path), model.Name);
    }

    [Fact]
    public void Head_width_and_kv_heads_are_implied_where_they_are_absent()
    {
        using TinyCheckpoint checkpoint = new(heads: 3, kvHeads: null, headWidth: null);
        using LlamaModel model = checkpoint.Write().Load();
        Assert.Equal((3, 8, 2048), (model.Config.KvHeads, model.Config.HeadWidth, model.Config.MaxPositions));
    }

    [Fact]
    public void The_demo_model_is_what_its_readme_says()
    {
        using LlamaModel model = DemoModel.Load();
        Assert.Equal((4, 256, 4, 2, 64), (model.Config.Layers, model.Config.HiddenSize, model.Config.QueryHeads, model.Config.KvHeads, model.Config.HeadWidth));
        Assert.InRange(model.WeightBytes / 2, 2_900_000, 3_100_000);
    }

    [Fact]
    public void A_file_cut_anywhere_is_refused()
    {
        using TinyCheckpoint checkpoint = new();
        byte[] whole = File.ReadAllBytes(checkpoint.Write().WeightsPath);
        int header = BitConverter.ToInt32(whole);
        foreach (int length in new[] { 0, 1, 7, 8, 9, 8 + (header / 2), 8 + header - 1, 8 + header, 8 + header + 1, whole.Length / 2, whole.Length - 1 })
        {
            File.WriteAllBytes(checkpoint.WeightsPath, whole[..length]);
            Assert.Equal("E004", checkpoint.Refused().Code);
        }

        File.WriteAllBytes(checkpoint.WeightsPath, [.. whole, 0]);
        Assert.Equal("E004", checkpoint.Refused().Code);
        File.WriteAllBytes(checkpoint.WeightsPath, whole);
        checkpoint.Load().Dispose();
    }

    [Theory]
    [InlineData(ulong.MaxValue)]
    [InlineData(1UL << 63)]
    [InlineData(100_000_001UL)]
    [InlineData(0UL)]
    [InlineData(1UL)]
    public void A_header_length_that_lies_is_refused(ulong length)
    {
        using TinyCheckpoint checkpoint = new();
        byte[] whole = File.ReadAllBytes(checkpoint.Write().WeightsPath);
        BitConverter.TryWriteBytes(whole, length);
        File.WriteAllBytes(checkpoint.WeightsPath, whole);
        Assert.Contains("header length", checkpoint.Refused().Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("dtype", "\"F16\"")]
    [InlineData("dtype", "\"F4\"")]
    [InlineData("dtype", "7")]
    [InlineData("shape", "[24]")]
    [InlineData("shape", "[50,25]")]
    [InlineData("shape", "[-50,-24]")]
    [InlineData("shape", "[9223372036854775807,9223372036854775807,9223372036854775807]")]
    [InlineData("shape", "[1200]")]
    [InlineData("shape", "[24,50]")]
    [InlineData("shape", "[50.5,24]")]
    [InlineData("shape", "\"50,24\"")]
    [InlineData("data_offsets", "[0,4]")]
    [InlineData("data_offsets", "[4800,0]")]
    [InlineData("data_offsets", "[4,4804]")]
    [InlineData("data_offsets", "[-4800,0]")]
    [InlineData("data_offsets", "[0,4800,9600]")]
    [InlineData("data_offsets", "[9223372036854770000,9223372036854774800]")]
    [InlineData("data_offsets", "[1e30,1e31]")]
    [InlineData("data_offsets", "null")]
    public void A_header_that_lies_about_a_tensor_is_refused(string key, string value)
    {
        using TinyCheckpoint checkpoint = new();
        checkpoint.Write(header => header["model.embed_tokens.weight"]![key] = JsonNode.Parse(value));
        LlamaFormatException error = checkpoint.Refused();
        Assert.Equal("E004", error.Code);
        Assert.StartsWith("E004: model.safetensors: model.embed_tokens.weight", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Tensors_that_overlap_or_leave_a_gap_are_refused()
    {
        using TinyCheckpoint checkpoint = new();
        checkpoint.Write(header =>
            header["model.layers.1.mlp.up_proj.weight"]!["data_offsets"] = header["model.layers.0.mlp.up_proj.weight"]!["data_offsets"]!.DeepClone());
        Assert.Contains("after the tensor before it", checkpoint.Refused().Message, StringComparison.Ordinal);
        checkpoint.Write(header => header.Remove("model.layers.1.mlp.up_proj.weight"));
        Assert.Contains("after the tensor before it", checkpoint.Refused().Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("")]
    [InlineData("[]")]
    [InlineData("{")]
    [InlineData("{}{}")]
    [InlineData("{\"a\":1}")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}""")]
    public void A_header_that_is_no_object_of_tensors_is_refused(string header)
    {
        using TinyCheckpoint checkpoint = new();
        checkpoint.Write().WriteRaw(header);
        Assert.Equal("E004", checkpoint.Refused().Code);
    }

    [Theory]
    [InlineData("model.embed_tokens.weight")]
    [InlineData("model.norm.weight")]
    [InlineData("model.layers.1.self_attn.k_proj.weight")]
    [InlineData("model.layers.0.mlp.down_proj.weight")]
    [InlineData("lm_head.weight")]
    public void A_missing_tensor_is_refused_by_name(string name)
    {
        using TinyCheckpoint checkpoint = new(tied: false);
        checkpoint.Tensors.Remove(name);
        checkpoint.Write();
        Assert.Contains(name, checkpoint.Refused().Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("F32", "model.embed_tokens.weight", 0x7fc00000u)]
    [InlineData("F32", "model.norm.weight", 0xff800000u)]
    [InlineData("F16", "model.layers.1.mlp.gate_proj.weight", 0x7c00u)]
    [InlineData("BF16", "model.layers.0.self_attn.o_proj.weight", 0xff81u)]
    public void Weights_that_are_not_finite_are_refused_by_name(string type, string name, uint bits)
    {
        using TinyCheckpoint checkpoint = new(type: type);
        byte[] bytes = checkpoint.Tensors[name].Bytes;
        BitConverter.GetBytes(bits).AsSpan(0, type == "F32" ? 4 : 2).CopyTo(bytes.AsSpan(bytes.Length - (type == "F32" ? 4 : 2)));
        checkpoint.Write();
        LlamaFormatException error = checkpoint.Refused();
        Assert.Contains(name, error.Message, StringComparison.Ordinal);
        Assert.Contains("NaN", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Weights_of_integers_and_biases_are_not_served()
    {
        using TinyCheckpoint integers = new();
        integers.Tensors["model.norm.weight"] = ("I32", [24], new byte[96]);
        integers.Write();
        Assert.Equal("E009", integers.Refused().Code);
        using TinyCheckpoint biased = new();
        biased.Add("model.layers.0.self_attn.q_proj.bias", "F32", 32);
        biased.Write();
        Assert.Equal("E009", biased.Refused().Code);
    }

    [Fact]
    public void Missing_files_are_named()
    {
        Assert.Equal("E002", Assert.Throws<LlamaFormatException>(() => LlamaModel.Load("/no such directory")).Code);
        using TinyCheckpoint checkpoint = new();
        Assert.Contains("safetensors", Missing("model.safetensors"), StringComparison.Ordinal);
        Assert.Contains("config.json", Missing("config.json"), StringComparison.Ordinal);

        string Missing(string name)
        {
            checkpoint.Write();
            File.Delete(Path.Combine(checkpoint.Path, name));
            LlamaFormatException error = checkpoint.Refused();
            Assert.Equal("E002", error.Code);
            return error.Message;
        }
    }

    [Theory]
    [InlineData(true, "model.embed_tokens.weight", "lm_head.weight")]
    [InlineData(false, "lm_head.weight", "model.embed_tokens.weight")]
    public void Weights_that_are_one_are_found_under_the_name_that_is_stored(bool tied, string missing, string stored)
    {
        using TinyCheckpoint checkpoint = new(tied: true);
        using LlamaModel whole = checkpoint.Write().Load();
        checkpoint.Config["tie_word_embeddings"] = tied;
        (string Type, int[] Shape, byte[] Bytes) weights = checkpoint.Tensors["model.embed_tokens.weight"];
        checkpoint.Tensors.Remove("model.embed_tokens.weight");
        checkpoint.Tensors.Add(stored, weights);
        checkpoint.Write();
        Assert.Contains(missing, checkpoint.Refused().Message, StringComparison.Ordinal);
        checkpoint.Write(header => header["__metadata__"] = new JsonObject { ["format"] = "pt", [missing] = stored });
        using LlamaModel model = checkpoint.Load();
        Assert.Equal(Row(whole.Embedding), Row(model.Embedding));
        Assert.Equal(Row(whole.Head), Row(model.Head));
        checkpoint.Write(header => header["__metadata__"] = new JsonObject { [missing] = "no.such.tensor" });
        Assert.Equal("E004", checkpoint.Refused().Code);

        static float[] Row(PackedMatrix matrix)
        {
            float[] row = new float[matrix.Columns];
            matrix.ReadRow(3, row);
            return row;
        }
    }

    [Theory]
    [InlineData("[]")]
    [InlineData("""{"format":1}""")]
    [InlineData("null")]
    public void Metadata_that_is_no_object_of_texts_is_refused(string metadata)
    {
        using TinyCheckpoint checkpoint = new();
        checkpoint.Write(header => header["__metadata__"] = JsonNode.Parse(metadata));
        Assert.Contains("__metadata__", checkpoint.Refused().Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("version https://git-lfs.github.com/spec/v1\noid sha256:8f4e\nsize 9876543\n", "Git LFS pointer")]
    [InlineData("\u0093NUMPY\u0001\0v\0{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }\n", "NumPy array")]
    [InlineData("PK\u0003\u0004\u0014\0\0\0\0\0", "zip archive")]
    [InlineData("<!DOCTYPE html><html><title>Sign in</title></html>", "web page")]
    public void A_file_of_another_kind_is_named_as_what_it_is(string content, string kind)
    {
        byte[] bytes = System.Text.Encoding.Latin1.GetBytes(content);
        foreach (string name in new[] { "model.safetensors", "config.json", "tokenizer.json", "tokenizer.model", "merges.txt", "vocab.json", "generation_config.json" })
        {
            using TinyCheckpoint checkpoint = new();
            checkpoint.Write();
            if (name is "merges.txt")
            {
                checkpoint.WriteText("vocab.json", """{"a":0}""");
            }
            else if (name is "vocab.json")
            {
                checkpoint.WriteText("merges.txt", string.Empty);
            }

            File.WriteAllBytes(Path.Combine(checkpoint.Path, name), bytes);
            LlamaFormatException error = checkpoint.Refused();
            Assert.StartsWith($"E004: {name}: ", error.Message, StringComparison.Ordinal);
            Assert.Contains(kind, error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_sound_header_may_be_as_long_as_another_kind_of_file_begins()
    {
        // 0x0280 bytes of header: the first two bytes of a pickle.
        using TinyCheckpoint checkpoint = new();
        checkpoint.Write();
        byte[] sound = File.ReadAllBytes(checkpoint.WeightsPath);
        int header = BitConverter.ToInt32(sound);
        int padded = ((header / 65536) * 65536) + 0x0280;
        padded += padded < header ? 65536 : 0;
        byte[] spaces = new byte[padded - header];
        Array.Fill(spaces, (byte)' ');
        File.WriteAllBytes(checkpoint.WeightsPath, [.. BitConverter.GetBytes((long)padded), .. sound[8..(8 + header)], .. spaces, .. sound[(8 + header)..]]);
        checkpoint.Load().Dispose();
    }

    public static TheoryData<string, byte[]> BrokenTexts => new()
    {
        { "UTF-8", [.. "{\"model_ty"u8, 0xfe, .. "pe\":\"llama\"}"u8] },
        { "UTF-8", [.. "{\"model_type\":\""u8, 0xc3, .. "\"}"u8] },
        { "half of a character", [.. "{\"model_type\":\"\\udbff\"}"u8] },
        { "half of a character", [.. "{\"\\uDC01\":1}"u8] },
        { "half of a character", [.. "{\"a\":[{\"b\":\"\\ud83d\\ud83d\\ude00\"}]}"u8] },
    };

    [Theory]
    [MemberData(nameof(BrokenTexts))]
    public void Json_whose_texts_are_no_unicode_is_refused_wherever_it_is_read(string what, byte[] json)
    {
        foreach (string name in new[] { "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors" })
        {
            using TinyCheckpoint checkpoint = new();
            checkpoint.Write();
            if (name == "tokenizer_config.json")
            {
                checkpoint.WriteText("vocab.json", """{"a":0}""");
                checkpoint.WriteText("merges.txt", string.Empty);
            }

            byte[] file = name == "model.safetensors" ? [.. BitConverter.GetBytes((long)json.Length), .. json] : json;
            File.WriteAllBytes(Path.Combine(checkpoint.Path, name), file);
            LlamaFormatException error = checkpoint.Refused();
            Assert.Equal("E004", error.Code);
            Assert.Contains(what, error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_backslash_before_a_u_is_no_half_of_a_character()
    {
        using TinyCheckpoint checkpoint = new();
        checkpoint.Config["comment"] = "\\ud83d \\\\ud83d \U0001f642";
        checkpoint.Write().Load().Dispose();
        checkpoint.WriteText("config.json", checkpoint.Config.ToJsonString().Replace("\"comment\":", "\"\\\\\\ud83d\\ude42\":", StringComparison.Ordinal));
        checkpoint.Load().Dispose();
    }

    [Fact]
    public void A_tokenizer_of_another_kind_leaves_a_model_that_takes_ids_and_says_why()
    {
        using TinyCheckpoint checkpoint = new();
        checkpoint.Write();
        checkpoint.WriteText("tokenizer.json", """{"model":{"type":"Unigram","vocab":[["a",0]]}}""");
        using LlamaModel model = checkpoint.Load();
        Assert.Null(model.Tokenizer);
        Assert.Equal("E009", model.TokenizerRefusal!.Code);
        Assert.Contains("Unigram", model.TokenizerRefusal.Message, StringComparison.Ordinal);
        checkpoint.WriteText("tokenizer.json", """{"model":7}""");
        Assert.Equal("E004", checkpoint.Refused().Code);
        File.Delete(Path.Combine(checkpoint.Path, "tokenizer.json"));
        using LlamaModel without = checkpoint.Load();
        Assert.Null(without.TokenizerRefusal);
    }
}
