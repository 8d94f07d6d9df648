using CsCheck;

namespace KvCacheGpu.Configuration.Tests.Versions;

/// <summary>Whatever else a file holds is there afterwards, in its order, byte for byte.</summary>
public class ForeignLinesTests
{
    private static readonly Gen<string> Word = Gen.Char["abcxyz_é"].Array[1, 8].Select(letters => "f" + new string(letters));
    private static readonly Gen<string> Indent = Pick("", "", " ", "\t");
    private static readonly Gen<string> Ending = Pick("\n", "\r\n");

    private static readonly Gen<string> EnvLine = Gen.OneOf(
        Gen.Select(Indent, Word, (indent, word) => $"{indent}# {word} KV_CACHE_SIZE=1"),
        Gen.Const(string.Empty),
        Gen.Select(Indent, Word.Where(word => word.All(char.IsAscii)), Word, (indent, name, value) => $"{indent}{name.ToUpperInvariant()}=\"{value} # {value}\""),
        Gen.Select(Word, word => $"export FOREIGN='{word}'"));

    private static readonly Gen<string> YamlLine = Gen.OneOf(
        Gen.Select(Word, word => $"# {word}: kv_cache_size: 3"),
        Gen.Const(string.Empty));

    [Fact]
    public void Of_variables() =>
        Gen.Select(EnvLine.Array[0, 12], EnvLine.Array[0, 12], Ending, Gen.Int[1, 1 << 20], Gen.Bool).Sample((above, below, ends, tokens, isLast) =>
        {
            string[] foreign = [.. above, .. below];
            string ending = foreign.Length == 0 && !isLast ? "\n" : ends;
            string text = string.Join(ending, [.. above, $"KV_CACHE_SIZE={tokens}", .. below]) + (isLast ? ending : string.Empty);
            string[] after = Lines(Migrate(".env", EnvText.Parse(".env", text)), ending);
            Assert.Contains($"KV_CACHE_MAX_TOKENS={tokens}", after);
            string[] left = [.. after.Where(line => !line.StartsWith("KV_CACHE_", StringComparison.Ordinal))];
            Assert.Equal(Lines(string.Join(ending, foreign) + (isLast && foreign.Length > 0 ? ending : string.Empty), ending).Where(line => line.Length > 0), left.Where(line => line.Length > 0));
            Assert.Equal(foreign.Count(line => line.Length == 0), left.Count(line => line.Length == 0) - (isLast ? 1 : 0));
        }, iter: 3000, threads: 1);

    [Fact]
    public void Of_yaml() =>
        Gen.Select(YamlLine.Array[0, 6], Word.Array[0, 5], YamlLine.Array[0, 6], Gen.Int[1, 9], Ending, Gen.Bool).Sample((remarks, words, below, indent, ending, isFirst) =>
        {
            string[] names = [.. words.Distinct()];
            string space = new(' ', indent);
            string[] block = ["kv_cache:", $"{space}max_tokens: 4096  # {indent}", .. names.Select(name => $"{space}{name}: [{name}, \"{name}\"]")];
            string[] foreign = [.. remarks, .. names.Select(name => $"{name}: {{{name}: '{name}'}}"), .. below];
            string[] lines = isFirst ? [.. block, .. foreign] : [.. foreign, .. block];
            string text = string.Join(ending, lines) + ending;
            string after = Migrate("c.yaml", YamlText.Parse("c.yaml", text));
            string[] added = [$"{space}enable_prefetch: true", $"{space}prefetch_size: 8"];
            Assert.Equal(lines, Without(Lines(after, ending)[..^1], added));
            Assert.All(added, line => Assert.Single(Lines(after, ending), line));
            Assert.EndsWith(ending, after, StringComparison.Ordinal);
        }, iter: 2000, threads: 1);

    [Fact]
    public void Of_json() =>
        Gen.Select(Word.Array[0, 5], Gen.Int[1, 1 << 20], Gen.Int[0, 5], Ending, Gen.Bool).Sample((words, tokens, at, ending, isOld) =>
        {
            string[] names = [.. words.Distinct()];
            List<string> members = [.. names.Select(name => $"  \"{name}\": [1, {{\"{name}\": \"//{name}\"}}]")];
            members.Insert(Math.Min(at, members.Count), isOld ? $"  \"kv_cache_size\": {tokens}" : $"  \"kv_cache\": {{ \"max_tokens\": {tokens} }}");
            string text = "{" + ending + string.Join("," + ending, members.Select(member => $"  // about it{ending}{member}")) + ending + "}";
            string after = Migrate("c.json", JsonText.Parse("c.json", text));
            Assert.Equal($"{tokens}", JsonText.Parse("c.json", after).Find("max_tokens"));
            foreach (string member in members.Where(member => !member.Contains("kv_cache", StringComparison.Ordinal)))
            {
                Assert.Contains($"  // about it{ending}{member}", after, StringComparison.Ordinal);
            }

            string[] order = [.. Members(after)];
            Assert.Equal(Members(text).Select(name => name == "kv_cache_size" ? "kv_cache" : name), order);
            Assert.Equal(members.Count, after.Split("// about it").Length - 1);
        }, iter: 2000, threads: 1);

    private static string Migrate(string path, IConfigText text)
    {
        string once = ConfigMigration.Migrate(path, text, new StepChoice(null, Lossless: true, _ => { })).Text;
        IConfigText again = path == ".env" ? EnvText.Parse(path, once) : IConfigText.Parse(path, System.Text.Encoding.UTF8.GetBytes(once));
        Assert.Equal(once, ConfigMigration.Migrate(path, again, new StepChoice(null, Lossless: true, _ => { })).Text);
        return once;
    }

    private static Gen<string> Pick(params string[] texts) => Gen.Int[0, texts.Length - 1].Select(i => texts[i]);

    private static string[] Lines(string text, string ending) => text.Split(ending);

    private static string[] Without(string[] lines, string[] added) => [.. lines.Where(line => !added.Contains(line))];

    private static IEnumerable<string> Members(string text) => JsonNodes.Parse(new SourceText("c.json", text)).Members.Select(member => member.Name);
}
