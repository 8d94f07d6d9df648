using System.Text;
using System.Text.Json.Nodes;
using KvCacheGpu.Serving;

namespace KvCacheGpu.Llama.Tests;

/// <summary>A chat template comes with a model that somebody else wrote: whatever it is, it ends, and throws nothing but the errors that are its own.</summary>
public sealed class ChatTemplateSafetyTests
{
    private const int Mutants = 4000;
    private const int Settings = 1000;

    private static readonly KvChatMessage[] Messages = [new("user", "Hello é🙂"), new("assistant", "\n"), new("user", string.Empty)];

    [Theory]
    [InlineData("{% set n = namespace(x='aaaaaaaaaaaaaaaa') %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}", "a text of more than")]
    [InlineData("{{ 'aaaaaaaa' * 99999999999 }}", "more work")]
    [InlineData("{{ 'aaaaaaaa' * 9223372036854775807 }}", "a number beyond 64 bits")]
    [InlineData("{{ range(9000000000) | length }}", "a range of more than 100000 numbers")]
    [InlineData("{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}{% endfor %}{% endfor %}{% endfor %}", "more work")]
    [InlineData("{% for a in range(100000) %}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa{% endfor %}", "a text of more than")]
    [InlineData("{% set x %}{% for a in range(100000) %}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa{% endfor %}{% endset %}", "a text of more than")]
    [InlineData("{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}", "more work")]
    [InlineData("{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x | tojson }}", "JSON of a list")]
    [InlineData("{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x == n.x + [] }}", "lists nested too deep to compare")]
    [InlineData("{% set n = namespace(x=[1]) %}{% set m = namespace(x=[1]) %}{% for i in range(40) %}{% set n.x = [n.x, n.x] %}{% set m.x = [m.x, m.x] %}{% endfor %}{{ n.x == m.x }}", "more work")]
    [InlineData("{% set n = namespace(x='a') %}{% for i in range(18) %}{% set n.x = n.x + n.x %}{% endfor %}{% for i in range(100000) %}{% if n.x.replace('a', 'b') %}{% endif %}{% endfor %}", "more work")]
    [InlineData("{% set n = namespace(x='a') %}{% for i in range(18) %}{% set n.x = n.x + n.x %}{% endfor %}{{ (n.x + 'b') in n.x * 4 }}", "more work")]
    public void Work_and_output_are_limited(string template, string reason)
    {
        LlamaChatTemplate parsed = LlamaChatTemplate.Parse(template);
        Assert.Contains($"got {reason}", Assert.Throws<ArgumentException>(() => parsed.Render(Messages, true)).Message, StringComparison.Ordinal);
    }

    public static TheoryData<string, string, string> Nested => new()
    {
        { "{{ " + new string('(', 90_000) + new string(')', 90_000) + " }}", "line 1", "more than 60 things in each other" },
        { "{{ " + new string('[', 90_000) + new string(']', 90_000) + " }}", "line 1", "more than 60 things in each other" },
        { "{{ " + string.Concat(Enumerable.Repeat("not ", 50_000)) + "x }}", "line 1", "more than 60 things in each other" },
        { "{{ " + string.Concat(Enumerable.Repeat("- ", 50_000)) + "x }}", "line 1", "more than 60 things in each other" },
        { string.Concat(Enumerable.Repeat("{% if x %}\n", 20_000)), "line 61", "more than 60 things in each other" },
        { "{% if x %}" + string.Concat(Enumerable.Repeat("{% elif x %}", 10_000)) + "{% endif %}", "line 1", "more than 60 things in each other" },
        { "{{ 1" + string.Concat(Enumerable.Repeat("+1", 50_000)) + " }}", "line 1", "an expression of too many parts" },
        { "{{ x" + string.Concat(Enumerable.Repeat(".a", 50_000)) + " }}", "line 1", "an expression of too many parts" },
        { "{{ x" + string.Concat(Enumerable.Repeat("|trim", 50_000)) + " }}", "line 1", "an expression of too many parts" },
        { "{{ x" + string.Concat(Enumerable.Repeat(" if x", 50_000)) + " }}", "line 1", "an expression of too many parts" },
        { new string('a', 300_000), "line 1", "one of 300000 letters, which is more than 262144" },
    };

    [Theory]
    [MemberData(nameof(Nested))]
    public void What_would_take_the_stack_is_refused(string template, string line, string reason)
    {
        LlamaFormatException error = Assert.Throws<LlamaFormatException>(() => LlamaChatTemplate.Parse(template));
        Assert.Equal(reason, error.Actual);
        Assert.Contains(line, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_deepest_and_longest_that_is_read_is_rendered_on_a_small_stack()
    {
        string value = string.Concat(Enumerable.Repeat("(", 25)) + "1" + string.Concat(Enumerable.Repeat("+1", 150)) + string.Concat(Enumerable.Repeat(")", 25));
        string template = string.Concat(Enumerable.Repeat("{% for x in [1] %}{% if x %}", 14)) + "{{ " + value + " }}" + string.Concat(Enumerable.Repeat("{% endif %}{% endfor %}", 14));
        string? rendered = null;
        Thread thread = new(() => rendered = LlamaChatTemplate.Parse(template).Render(Messages, true), 256 << 10);
        thread.Start();
        thread.Join();
        Assert.Equal("151", rendered);
    }

    [Fact]
    public void Mutants_of_published_templates_are_rendered_or_refused_by_a_typed_error()
    {
        string[] sources = [.. ChatTemplateReferences.Array("models").Select(m => (string)m["template"]!).Where(t => t.Length < 2600)];
        string[] parts = [.. sources.SelectMany(s => s.Split(' ')).Distinct()];
        Mutations mutations = new(7);
        Random random = new(11);
        (int rendered, int refused, int failed) = (0, 0, 0);
        for (int i = 0; i < Mutants; i++)
        {
            string source = sources[i % sources.Length];
            string bent = (i % 3) switch
            {
                0 => Encoding.UTF8.GetString(mutations.Bend(Encoding.UTF8.GetBytes(source))),
                1 => Exchange(source.Split(' ')),
                _ => string.Join(' ', Enumerable.Range(0, 12).Select(_ => parts[random.Next(parts.Length)])),
            };
            try
            {
                LlamaChatTemplate.Parse(bent, clock: ChatTemplateReferences.Clock).Render(Messages, i % 2 == 0);
                rendered++;
            }
            catch (LlamaFormatException error) when (error.Code == "E009" && !error.Message.Contains('\n', StringComparison.Ordinal))
            {
                refused++;
            }
            catch (ArgumentException)
            {
                failed++;
            }
            catch (Exception error)
            {
                Assert.Fail($"mutant {i}: {error}\n{bent}");
            }
        }

        Assert.InRange(rendered, 100, Mutants);
        Assert.InRange(refused, 100, Mutants);
        Assert.InRange(failed, 20, Mutants);

        string Exchange(string[] words)
        {
            words[random.Next(words.Length)] = parts[random.Next(parts.Length)];
            return string.Join(' ', words);
        }
    }

    [Fact]
    public void Directories_with_bent_settings_are_read_or_refused_by_a_typed_error()
    {
        using TempFolder folder = new();
        JsonNode settings = new JsonObject
        {
            ["bos_token"] = new JsonObject { ["content"] = "<s>" },
            ["eos_token"] = "</s>",
            ["chat_template"] = new JsonArray(new JsonObject { ["name"] = "default", ["template"] = "{{ bos_token }}{{ messages[0].content }}" }),
        };
        byte[] sound = Encoding.UTF8.GetBytes(settings.ToJsonString());
        Mutations mutations = new(5);
        int loaded = 0;
        for (int i = 0; i < Settings; i++)
        {
            File.WriteAllBytes(Path.Combine(folder.Path, "tokenizer_config.json"), mutations.Bend(sound));
            try
            {
                loaded += LlamaChatTemplate.Load(folder.Path) is null ? 0 : 1;
            }
            catch (LlamaFormatException error)
            {
                Assert.Contains(error.Code, (string[])["E004", "E009"]);
            }
        }

        Assert.InRange(loaded, 20, Settings - 100);
    }
}
