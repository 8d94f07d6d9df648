using System.Text;
using System.Text.Json.Nodes;

namespace KvCacheGpu.Llama.Tests;

/// <summary>20,000 changed files for each parser: each is read, or refused by a typed error in one line. A public method throws no other error.</summary>
public sealed class MutantTests
{
    private const int Mutants = 20_000;

    private static readonly string[] Texts = ["ab's \ud835\udc9c <x>  1\u0301 ", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa!", "\ud800 x\n\n"];

    public static TheoryData<string> Files => new("tokenizer.json", "tokenizer.model", "vocab.json merges.txt tokenizer_config.json", "config.json", "model.safetensors");

    [Theory]
    [MemberData(nameof(Files))]
    public void Bent_files_are_read_or_refused_by_a_typed_error(string names)
    {
        using TempFolder folder = new();
        string[] files = names.Split(' ');
        Write(folder, files[0]);
        byte[][] sound = [.. files.Select(f => File.ReadAllBytes(Path.Combine(folder.Path, f)))];
        Mutations mutations = new(names.Length);
        int loaded = 0;
        int refused = 0;
        for (int i = 0; i < Mutants; i++)
        {
            // One of several files is changed; the one changed before is valid again.
            int at = i % files.Length;
            if (files.Length > 1)
            {
                int before = (i + files.Length - 1) % files.Length;
                File.WriteAllBytes(Path.Combine(folder.Path, files[before]), sound[before]);
            }

            byte[] bent = mutations.Bend(sound[at]);
            File.WriteAllBytes(Path.Combine(folder.Path, files[at]), bent);
            try
            {
                Read(files[0], folder.Path, Path.Combine(folder.Path, files[0]));
                loaded++;
            }
            catch (LlamaFormatException error)
            {
                Assert.DoesNotContain('\n', error.Message);
                Assert.Contains(error.Code, (string[])["E002", "E004", "E009"]);
                refused++;
            }
            catch (Exception error)
            {
                Assert.Fail($"mutant {i} of {files[at]}: {error}\n{Convert.ToBase64String(bent)}");
            }
        }

        // Both must happen; otherwise the suite tests nothing.
        Assert.InRange(loaded, 100, Mutants);
        Assert.InRange(refused, 1000, Mutants);
    }

    private static void Read(string name, string directory, string path)
    {
        switch (name)
        {
            case "config.json":
                LlamaConfig.Load(path);
                break;
            case "model.safetensors":
                ReadWeights(path);
                break;
            default:
                if (LlamaTokenizer.Load(directory, References.Config.Value) is { } tokenizer)
                {
                    Use(tokenizer);
                }

                break;
        }
    }

    private static void Use(LlamaTokenizer tokenizer)
    {
        foreach (string text in Texts)
        {
            try
            {
                tokenizer.Decode(tokenizer.Encode(text));
            }
            catch (ArgumentException)
            {
                // The vocabulary cannot spell it.
            }
        }
    }

    private static void ReadWeights(string path)
    {
        using SafetensorsFile file = SafetensorsFile.Open(path);
        Assert.All(file.Metadata, t => Assert.NotNull(t.Value));
        foreach (TensorEntry entry in file.Tensors)
        {
            file.Read(entry, 0, new byte[entry.Bytes]);
        }
    }

    // Small, with something of everything.
    private static void Write(TempFolder folder, string name)
    {
        switch (name)
        {
            case "tokenizer.json":
                folder.Write(name, Json().ToJsonString());
                break;
            case "tokenizer.model":
                TinyPieces pieces = new();
                pieces.Pieces.RemoveRange(20, 236);
                pieces.ByteFallback = false;
                File.WriteAllBytes(Path.Combine(folder.Path, name), pieces.ToBytes());
                break;
            case "config.json" or "model.safetensors":
                using (TinyCheckpoint checkpoint = new(layers: 1))
                {
                    checkpoint.Config["rope_scaling"] = JsonNode.Parse("""{"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":64}""");
                    checkpoint.Config["sliding_window"] = 16;
                    checkpoint.Tensors.Keys.Skip(4).ToList().ForEach(k => checkpoint.Tensors.Remove(k));
                    File.Copy(Path.Combine(checkpoint.Write().Path, name), Path.Combine(folder.Path, name));
                }

                break;
            default:
                folder.Write("vocab.json", Json()["model"]!["vocab"]!.ToJsonString());
                folder.Write("merges.txt", "#version: 0.2\na a\naa aa\n' s\n");
                folder.Write("tokenizer_config.json", """{"tokenizer_class":"Qwen2Tokenizer","add_bos_token":false,"added_tokens_decoder":{"70":{"content":"<x>","lstrip":true,"rstrip":false,"single_word":true,"normalized":true,"special":true}}}""");
                break;
        }
    }

    private static JsonObject Json()
    {
        JsonObject json = References.Json("qwen2");
        JsonObject vocabulary = [];
        foreach (string token in "a b ' s < x > \u0120 1 \u010a ! aa aaaa 's".Split(' ').Concat(Encoding.UTF8.GetBytes("\ud835\udc9c\u0301\ufffd").Distinct().Select(Letter)))
        {
            vocabulary[token] = vocabulary.Count;
        }

        json["model"]!["vocab"] = vocabulary;
        json["model"]!["merges"] = JsonNode.Parse("""[["a","a"],"aa aa",["'","s"]]""");
        json["added_tokens"] = JsonNode.Parse("""[{"id":70,"content":"<x>","lstrip":true,"rstrip":false,"single_word":true,"normalized":true,"special":true}]""");
        return json;
    }

    // As byte-level vocabularies write a byte beyond ASCII: Latin-1 where it prints, else from U+0100 on in the order of the bytes.
    private static string Letter(byte value) => ((char)(value is > 0xa0 and not 0xad ? value : 0x100 + 0x21 + value - 0x7f)).ToString();
}
