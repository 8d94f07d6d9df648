using System.Text.Json.Nodes;

namespace KvCacheGpu.Llama.Tests;

/// <summary>Checkpoints in shards: the index and every shard are accepted only if they agree.</summary>
public sealed class ShardTests
{
    private const string Embedding = "model.embed_tokens.weight";
    private const string Last = "model.layers.1.mlp.down_proj.weight";

    [Fact]
    public void Shards_hold_what_the_whole_file_holds()
    {
        using TinyCheckpoint whole = new(4), parts = new(4);
        using LlamaModel a = whole.Write().Load(), b = parts.WriteShards(2).Load();
        Assert.Equal(a.WeightBytes, b.WeightBytes);
        Assert.Equal(a.Norm, b.Norm);
    }

    [Fact]
    public void A_listed_shard_that_is_missing_or_cut_is_refused_by_name()
    {
        using TinyCheckpoint checkpoint = new();
        string second = Path.Combine(checkpoint.WriteShards(2).Path, TinyCheckpoint.ShardName(1, 2));
        byte[] bytes = File.ReadAllBytes(second);
        File.WriteAllBytes(second, bytes[..^1]);
        Assert.StartsWith("E004: model-00002-of-00002.safetensors", checkpoint.Refused().Message, StringComparison.Ordinal);
        File.Delete(second);
        Assert.Equal("E002", checkpoint.Refused().Code);
    }

    [Theory]
    [InlineData(Embedding, null, "not listed")]
    [InlineData(Embedding, "model-00002-of-00002.safetensors", "listed in model-00002-of-00002.safetensors")]
    [InlineData("model.layers.7.mlp.up_proj.weight", "model-00001-of-00002.safetensors", "no such tensor there")]
    [InlineData(Last, "../model-00002-of-00002.safetensors", "the name of a .safetensors file beside it")]
    [InlineData(Last, "/etc/passwd", "the name of a .safetensors file beside it")]
    [InlineData(Last, "model-00009-of-00002.safetensors", "listed in model-00009-of-00002.safetensors")]
    public void Entries_that_lie_are_refused(string tensor, string? shard, string message)
    {
        using TinyCheckpoint checkpoint = new();
        checkpoint.WriteShards(2, map =>
        {
            map.Remove(tensor);
            if (shard is not null)
            {
                map[tensor] = shard;
            }
        });
        Assert.Contains(message, checkpoint.Refused().Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_tensor_in_two_shards_or_in_none_is_refused()
    {
        using TinyCheckpoint checkpoint = new();
        string path = checkpoint.WriteShards(2).Path;
        File.Copy(Path.Combine(path, TinyCheckpoint.ShardName(0, 2)), Path.Combine(path, "again.safetensors"));
        Bend(path, map => map["other"] = "again.safetensors");
        Assert.Contains("to be where model.safetensors.index.json lists it", checkpoint.Refused().Message, StringComparison.Ordinal);
        checkpoint.Tensors.Remove("model.norm.weight");
        checkpoint.WriteShards(2);
        Assert.StartsWith("E004: model.safetensors.index.json: model.norm.weight", checkpoint.Refused().Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{}")]
    [InlineData("""{"weight_map":{}}""")]
    [InlineData("""{"weight_map":[1]}""")]
    [InlineData("""{"weight_map":{"a":3}}""")]
    [InlineData("""{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}""")]
    [InlineData("""{"weight_map":{"a":"x.bin"}}""")]
    public void An_index_that_is_none_is_refused(string index)
    {
        using TinyCheckpoint checkpoint = new();
        checkpoint.WriteShards(2).WriteText("model.safetensors.index.json", index);
        LlamaFormatException error = checkpoint.Refused();
        Assert.StartsWith("E004: model.safetensors.index.json", error.Message, StringComparison.Ordinal);
    }

    private static void Bend(string path, Action<JsonObject> bend)
    {
        string file = Path.Combine(path, "model.safetensors.index.json");
        JsonObject index = JsonNode.Parse(File.ReadAllText(file))!.AsObject();
        bend(index["weight_map"]!.AsObject());
        File.WriteAllText(file, index.ToJsonString());
    }
}
