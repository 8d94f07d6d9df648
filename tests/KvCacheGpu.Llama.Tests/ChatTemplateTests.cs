using System.Text.Json.Nodes;
using KvCacheGpu.Serving;

namespace KvCacheGpu.Llama.Tests;

/// <summary>Chat templates: each published one is rendered as transformers does, letter by letter, or refused by name.</summary>
public sealed class ChatTemplateTests
{
    private static readonly KvChatMessage[] Hello = [new("user", "Hello"), new("assistant", "Hi"), new("user", "Bye")];

    public static TheoryData<string> Models => [.. ChatTemplateReferences.Array("models").Select(m => (string)m["name"]!)];

    [Theory]
    [MemberData(nameof(Models))]
    public void Published_templates_are_rendered_as_Jinja_does(string name)
    {
        JsonNode model = ChatTemplateReferences.Model(name);
        LlamaChatTemplate template = ChatTemplateReferences.Parse(model);
        int rendered = 0;
        foreach (JsonNode rendering in model["renderings"]!.AsArray().Select(r => r!))
        {
            KvChatMessage[] messages = ChatTemplateReferences.Messages(ChatTemplateReferences.Conversations[(int)rendering["conversation"]!]);
            bool prompt = (bool)rendering["prompt"]!;
            if (rendering["text"] is { } text)
            {
                Assert.Equal((string)text!, template.Render(messages, prompt));
                rendered++;
                continue;
            }

            string message = Assert.Throws<ArgumentException>(() => template.Render(messages, prompt)).Message;
            if (rendering["raises"] is { } raises)
            {
                Assert.Equal((string)raises!, message);
            }
        }

        Assert.InRange(rendered, 4, 14);
    }

    [Fact]
    public void Renderings_that_others_published_are_met()
    {
        IReadOnlyList<JsonNode> published = ChatTemplateReferences.Array("published");
        Assert.Equal(27, published.Count);
        Assert.All(published, p => Assert.Equal(
            (string)p["text"]!, ChatTemplateReferences.Parse(p).Render(ChatTemplateReferences.Messages(p["messages"]!), (bool)p["prompt"]!)));
    }

    [Fact]
    public void Templates_outside_of_the_supported_part_are_refused_by_name_and_line()
    {
        IReadOnlyList<JsonNode> refused = ChatTemplateReferences.Array("refused");
        Assert.Equal(5, refused.Count);
        foreach (JsonNode model in refused)
        {
            LlamaFormatException error = Assert.Throws<LlamaFormatException>(() => LlamaChatTemplate.Parse((string)model["template"]!));
            Assert.Equal("E009", error.Code);
            Assert.Contains($"{(string)model["line"]!}: ", error.Message, StringComparison.Ordinal);
            Assert.Equal((string)model["construct"]!, error.Actual);
        }
    }

    [Fact]
    public void Four_hundred_random_templates_are_rendered_as_Jinja_does()
    {
        JsonNode file = JsonNode.Parse(References.Bytes("jinja.json"))!;
        KvChatMessage[] messages = ChatTemplateReferences.Messages(file["messages"]!);
        Dictionary<string, string> tokens = new() { ["bos_token"] = "<s>" };
        JsonArray cases = file["cases"]!.AsArray();
        Assert.Equal(400, cases.Count);
        foreach (JsonNode one in cases.Select(c => c!))
        {
            string template = (string)one["template"]!;
            string text = LlamaChatTemplate.Parse(template, tokens).Render(messages[..(int)one["count"]!], (bool)one["prompt"]!);
            Assert.True((string)one["text"]! == text, $"{template}\nexpected {one["text"]}\ngot {text}");
        }
    }

    [Theory]
    [InlineData("{{ 'a' }}\n{% if true %}\n  b\n  {% endif %}\nc\n", "a\n  b\nc")]
    [InlineData("a \n {%- if true -%} \n b \n {%- endif +%}\n c", "ab\n c")]
    [InlineData("  {%+ if true %} x {% endif %}", "   x ")]
    [InlineData("  {# c #}\nx{#- d -#} \n y", "xy")]
    [InlineData("{{ 'a\\n\\'\\x41\\u00e9' \"b\" }}", "a\n'A\u00e9b")]
    [InlineData("{{ {'a': {'b': 'c'}}['a'].b }}", "c")]
    [InlineData("{{ '%}' ~ 1 + 2 }}", null)]
    [InlineData("{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 2 * 3 - 1 }} {{ 'ab' * 2 }}", "3 -4 2 5 abab")]
    [InlineData("{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' in 'ab' }} {{ 'c' not in ['a'] }}", "True False True True")]
    [InlineData("{{ '' or 'x' }}{{ 'y' and 'z' }}{{ not none }}{{ none }}{{ nothing }}", "xzTrueNone")]
    [InlineData("{{ 'a' + ' b ' | trim }}", "ab")]
    [InlineData("{{ not 'a' is defined }} {{ a is not defined }} {{ strftime_now is defined }}", "False True True")]
    [InlineData("{% set x = 1 %}{% for m in messages %}{{ x }}{% set x = x + loop.index %}{{ x }}{% endfor %}{{ x }}", "1213141")]
    [InlineData("{% set n = namespace(x=0) %}{% for m in messages %}{% set n.x = n.x + 1 %}{% endfor %}{{ n.x }}", "3")]
    [InlineData("{% for m in messages if m.role == 'user' %}{{ loop.index ~ '/' ~ loop.length ~ m.content }}{% else %}none{% endfor %}", "1/2Hello2/2Bye")]
    [InlineData("{% for m in messages[5:] %}x{% else %}none{% endfor %}", "none")]
    [InlineData("{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.content }}{% break %}{% endfor %}", "Hi")]
    [InlineData("{% for k, v in messages[0].items() %}{{ k ~ '=' ~ v }}{{ '' if loop.last else ',' }}{% endfor %}", "role=user,content=Hello")]
    [InlineData("{% for p in messages[0].items() %}{{ p == ['role', 'user'] }}{{ p[:1] == [p[0]] }}{% endfor %}", "FalseFalseFalseFalse")]
    [InlineData("{{ messages[-1]['content'][::-1] }}{{ messages[1:] | length }}{{ 'é🙂x'[1] ~ ('é🙂x' | length) }}", "eyB2🙂3")]
    [InlineData("{{ messages | map(attribute='role') | join('+') }}", "user+assistant+user")]
    [InlineData("{{ messages[0] | tojson }}", "{\"role\": \"user\", \"content\": \"Hello\"}")]
    [InlineData("{{ 'a</think>b'.split('</think>')[-1] }}{{ ' x '.strip() }}{{ 'xyx'.lstrip('x') }}{{ 'user'.title() }}", "bxyxUser")]
    [InlineData("{% set x %} a {{ 1 }}{% endset %}[{{ x }}]", "[ a 1]")]
    [InlineData("{{ strftime_now('%d %b %Y %H:%M %p %A') }}", "04 Jul 2025 15:05 PM Friday")]
    [InlineData("{{ messages.Count }}{{ messages.Length }}{{ messages[0].Items }}{{ ''.Chars }}", "")]
    [InlineData("\r\n{{ 1 }}\r\n", "\n1")]
    public void What_templates_use_means_what_it_means_in_Jinja(string template, string? expected)
    {
        if (expected is null)
        {
            // '~' binds closer than '+', so that this adds a number to a string.
            Assert.Contains("line 1: ", Assert.Throws<ArgumentException>(() => Render(template)).Message, StringComparison.Ordinal);
            return;
        }

        Assert.Equal(expected, Render(template));
    }

    [Theory]
    [InlineData("{% macro f() %}{% endmacro %}", 1, "the statement 'macro'")]
    [InlineData("a\n{% include 'x' %}", 2, "the statement 'include'")]
    [InlineData("{% raw %}{% endraw %}", 1, "the statement 'raw'")]
    [InlineData("{% endif %}", 1, "the statement 'endif' without its beginning")]
    [InlineData("{% if x %}", 1, "the end of the template where '{% endif %}' is expected")]
    [InlineData("{% for x in y recursive %}{% endfor %}", 1, "a recursive loop")]
    [InlineData("{% for x in y %}{% break %}{% else %}{% endfor %}", 1, "a loop with 'else' and with 'break' or 'continue'")]
    [InlineData("{% break %}", 1, "'break' outside of a loop's body")]
    [InlineData("{% set a, b = 1 %}", 1, "a 'set' of 'a, ...'")]
    [InlineData("{% set loop = 1 %}", 1, "a 'set' of 'loop'")]
    [InlineData("{{ 1.5 }}", 1, "a number with a fraction")]
    [InlineData("{{ 1 / 2 }}", 1, "the operator '/'")]
    [InlineData("{{ 2 ** 2 }}", 1, "the operator '**'")]
    [InlineData("{{ x | safe }}", 1, "the filter 'safe'")]
    [InlineData("{{ x | trim(a=1) }}", 1, "the filter 'trim' with the argument 'a'")]
    [InlineData("{{ x | selectattr('a', 'b') }}", 1, "the filter 'selectattr' with the test 'b'")]
    [InlineData("{{ x is callable }}", 1, "the test 'callable'")]
    [InlineData("\n\n{{ x.format(1) }}", 3, "the method 'format'")]
    [InlineData("{{ x.append(1) }}", 1, "the method 'append'")]
    [InlineData("{{ messages.GetType() }}", 1, "the method 'GetType'")]
    [InlineData("{{ x.__class__ }}", 1, "the attribute '__class__'")]
    [InlineData("{{ f(1) }}", 1, "a call of what is no known function")]
    [InlineData("{{ cycler }}", 1, "the function 'cycler'")]
    [InlineData("{{ range }}", 1, "the function 'range' without a call")]
    [InlineData("{{ loop }}", 1, "'loop' outside of a loop, or without an attribute")]
    [InlineData("{% for x in y %}{{ loop.cycle(1) }}{% endfor %}", 1, "'loop.cycle'")]
    [InlineData("{{ (1, 2) }}", 1, "',' where ')' is expected")]
    [InlineData("{{ f(*x) }}", 1, "a call of what is no known function")]
    [InlineData("{{ x.get(*x) }}", 1, "arguments by '*'")]
    [InlineData("{{ 'x", 1, "a string without end")]
    [InlineData("{{ '\\N{DASH}' }}", 1, "the escape '\\N'")]
    [InlineData("{# x", 1, "a comment without end")]
    [InlineData("a\n{{ x", 2, "a tag without end")]
    [InlineData("{{ \u00e9 }}", 1, "the letter U+00E9")]
    [InlineData("{{ a) }}", 1, "')' without its beginning")]
    [InlineData("{{ additional_special_tokens }}", 1, "'additional_special_tokens'")]
    public void What_is_not_supported_is_refused_by_name_at_its_line(string template, int line, string construct)
    {
        LlamaFormatException error = Assert.Throws<LlamaFormatException>(() => LlamaChatTemplate.Parse(template));
        Assert.Equal(("E009", construct), (error.Code, error.Actual));
        Assert.Equal($"E009: chat template: line {line}: only the Jinja of docs/chat-templates.md is supported, got {construct}", error.Message);
    }

    [Theory]
    [InlineData("{{ 'a' + 1 }}", "'+' of a string and a number")]
    [InlineData("{{ x.y }}", "'y' of 'x', which is undefined")]
    [InlineData("{{ x + 'a' }}", "'+' of 'x', which is undefined and a string")]
    [InlineData("\n{{ messages }}", "text of a list")]
    [InlineData("{{ messages[0].items }}", "the method 'items' of a dictionary without a call")]
    [InlineData("{{ 'a'['__class__'] }}", "the method '__class__' of a string without a call")]
    [InlineData("{% for x in 5 %}{% endfor %}", "a loop over a number")]
    [InlineData("{{ 1 // 0 }}", "a division by 0")]
    [InlineData("{{ 9223372036854775807 + 1 }}", "a number beyond 64 bits")]
    [InlineData("{% set x = 1 %}{% set x.y = 2 %}", "'set x.y' of what is no namespace")]
    [InlineData("{{ 'é' | upper }}", "upper or lower case of letters beyond ASCII")]
    [InlineData("{% set x = range(3) %}{{ x | list | length }}{{ x | list | length }}", "a sequence that is read twice (a filter | list keeps it)")]
    [InlineData("{{ none | length }}", "the length of none")]
    [InlineData("{{ strftime_now('%q') }}", "strftime_now with '%q'")]
    public void What_Python_refuses_is_an_argument_that_does_not_fit(string template, string reason)
    {
        string line = template[0] == '\n' ? "2" : "1";
        ArgumentException error = Assert.Throws<ArgumentException>(() => Render(template));
        Assert.Equal($"chat template, line {line}: expected what Jinja can render, got {reason}", error.Message);
    }

    [Fact]
    public void A_template_refuses_a_conversation_in_its_own_words()
    {
        LlamaChatTemplate template = ChatTemplateReferences.Parse(ChatTemplateReferences.Model("google/gemma-2-9b-it"));
        Assert.Equal("System role not supported", Assert.Throws<ArgumentException>(() => template.Render([new("system", "s")], true)).Message);
        Assert.StartsWith("Conversation roles must alternate", Assert.Throws<ArgumentException>(() => template.Render([new("assistant", "a")], true)).Message, StringComparison.Ordinal);
        Assert.Equal("<bos><start_of_turn>user\nHello<end_of_turn>\n", template.Render(Hello[..1], false));
    }

    [Fact]
    public void A_template_that_writes_the_date_needs_a_clock()
    {
        LlamaFormatException error = Assert.Throws<LlamaFormatException>(() => LlamaChatTemplate.Parse("{{ strftime_now('%Y') }}"));
        Assert.Equal("strftime_now, which needs a clock", error.Actual);
        Assert.Equal("2025", Render("{{ strftime_now('%Y') }}"));
    }

    [Fact]
    public void Several_threads_render_one_template()
    {
        LlamaChatTemplate template = ChatTemplateReferences.Parse(ChatTemplateReferences.Model("Qwen/Qwen3-0.6B"));
        string expected = template.Render(Hello, true);
        string[] rendered = new string[200];
        Parallel.For(0, rendered.Length, i => rendered[i] = template.Render(Hello, true));
        Assert.All(rendered, r => Assert.Equal(expected, r));
    }

    [Fact]
    public void Wrong_arguments_are_refused()
    {
        Assert.Throws<ArgumentNullException>(() => LlamaChatTemplate.Parse(null!));
        Assert.Throws<ArgumentNullException>(() => LlamaChatTemplate.Parse(string.Empty).Render(null!, true));
        Assert.Throws<ArgumentException>(() => LlamaChatTemplate.Parse(string.Empty).Render([null!], true));
        Assert.Throws<ArgumentException>(() => LlamaChatTemplate.Parse(string.Empty).Render([new("user", null!)], true));
        Assert.Throws<ArgumentException>(() => LlamaChatTemplate.Parse(string.Empty, new Dictionary<string, string> { ["messages"] = "x" }));
    }

    private static string Render(string template) => LlamaChatTemplate.Parse(template, clock: ChatTemplateReferences.Clock).Render(Hello, true);
}
