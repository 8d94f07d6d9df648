using KvCacheGpu.Evaluation;
using KvCacheGpu.Serving;

namespace KvCacheGpu.Llama.Tests;

/// <summary>What of a model directory's chat template is read, and what a scheduler gets of the whole directory.</summary>
public sealed class ServedModelTests
{
    private static readonly KvChatMessage[] Hello = [new("user", "Hello")];

    [Theory]
    [InlineData("""{"chat_template":"{{ bos_token }}|{{ eos_token }}|{{ unk_token }}","bos_token":"<s>","eos_token":{"content":"</s>"},"unk_token":null}""", "<s>|</s>|")]
    [InlineData("""{"chat_template":[{"name":"tool_use","template":"t"},{"name":"default","template":"d"}]}""", "d")]
    [InlineData("""{"chat_template":"{{ pad_token }}{{ sep_token }}","tokenizer_class":"PreTrainedTokenizerFast"}""", "")]
    [InlineData("""{"chat_template":"{{ bos_token }}","bos_token":null,"tokenizer_class":"Qwen2Tokenizer"}""", "")]
    [InlineData("""{"chat_template":"{{ messages[0].content }}","tokenizer_class":"LlamaTokenizer"}""", "Hello")]
    public void The_template_of_tokenizer_config_is_read_with_its_tokens(string settings, string expected)
    {
        using TempFolder folder = new();
        folder.Write("tokenizer_config.json", settings);
        Assert.Equal(expected, LlamaChatTemplate.Load(folder.Path)!.Render(Hello, true));
    }

    [Theory]
    [InlineData("""{"chat_template":5}""", "E004", "a string or a list")]
    [InlineData("""{"chat_template":[5]}""", "E004", "objects with name and template")]
    [InlineData("""{"chat_template":[]}""", "E009", "one that is named default")]
    [InlineData("""{"chat_template":[{"name":"rag","template":"x"}]}""", "E009", "got the names rag")]
    [InlineData("""{"chat_template":"x","bos_token":5}""", "E004", "bos_token")]
    [InlineData("""{"chat_template":"x","bos_token":{"text":"a"}}""", "E004", "an object with content")]
    [InlineData("""{"chat_template":"{{ bos_token }}","tokenizer_class":"LlamaTokenizer"}""", "E009", "'bos_token', whose text no file of the model has")]
    [InlineData("""{"chat_template":"\n{{ 1.5 }}"}""", "E009", "tokenizer_config.json: chat_template: line 2: ")]
    [InlineData("[]", "E004", "an object")]
    public void Settings_that_do_not_fit_are_refused(string settings, string code, string message)
    {
        using TempFolder folder = new();
        folder.Write("tokenizer_config.json", settings);
        LlamaFormatException error = Assert.Throws<LlamaFormatException>(() => LlamaChatTemplate.Load(folder.Path));
        Assert.Equal(code, error.Code);
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_file_of_its_own_goes_before_and_the_map_of_special_tokens_after()
    {
        using TempFolder folder = new();
        Assert.Null(LlamaChatTemplate.Load(folder.Path));
        folder.Write("tokenizer_config.json", """{"chat_template":"c","eos_token":"</c>","tokenizer_class":"LlamaTokenizer"}""");
        folder.Write("special_tokens_map.json", """{"bos_token":"<m>","eos_token":"</m>"}""");
        Assert.Equal("c", LlamaChatTemplate.Load(folder.Path)!.Source);
        folder.Write("chat_template.jinja", "{{ bos_token }}{{ eos_token }}\n");
        Assert.Equal("<m></c>", LlamaChatTemplate.Load(folder.Path)!.Render(Hello, true));
        File.WriteAllBytes(Path.Combine(folder.Path, "chat_template.jinja"), [0x61, 0xff]);
        Assert.Equal("E004", Assert.Throws<LlamaFormatException>(() => LlamaChatTemplate.Load(folder.Path)).Code);
    }

    [Fact]
    public void The_demo_model_is_served_with_its_template()
    {
        using LlamaServedModel model = LlamaServedModel.Load(DemoModel.Directory, maxBatchTokens: 64);
        KvServedModel served = model.Served;
        Assert.Equal(("demo-model", null), (served.Name, served.ChatTemplateRefusal));
        Assert.Same(model.Decoder, served.Model);
        Assert.Equal(64, served.Model.MaxStepTokens);
        string text = served.ChatTemplate!.Render([new("system", "In the beginning"), new("user", "God created")], true);
        Assert.Equal("<bos>In the beginning\nGod created", text);
        // The text holds the token that starts texts: as many tokens as with the start put before it.
        Assert.Equal(model.Model.Tokenizer!.Encode("In the beginning\nGod created"), served.Tokenizer!.Encode(text, start: false));
    }

    [Fact]
    public void A_model_without_template_or_tokenizer_is_served_with_the_reason()
    {
        using TempFolder folder = new();
        foreach (string file in Directory.GetFiles(DemoModel.Directory))
        {
            File.Copy(file, Path.Combine(folder.Path, Path.GetFileName(file)));
        }

        Assert.Contains("the filter 'safe'", Refusal("""{"chat_template":"{{ x | safe }}"}"""), StringComparison.Ordinal);
        Assert.Contains("has no chat template", Refusal("{}"), StringComparison.Ordinal);
        File.Delete(Path.Combine(folder.Path, "vocab.json"));
        File.Delete(Path.Combine(folder.Path, "merges.txt"));
        Assert.Contains("has no tokenizer", Refusal("{}"), StringComparison.Ordinal);

        string Refusal(string settings)
        {
            folder.Write("tokenizer_config.json", settings);
            using LlamaServedModel model = LlamaServedModel.Load(folder.Path, "mine");
            Assert.Equal("mine", model.Served.Name);
            Assert.Null(model.Served.ChatTemplate);
            return model.Served.ChatTemplateRefusal!;
        }
    }
}
