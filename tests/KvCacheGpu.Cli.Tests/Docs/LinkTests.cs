using System.Text.RegularExpressions;

namespace KvCacheGpu.Cli.Tests.Docs;

/// <summary>Links within the repository lead to what is there.</summary>
public partial class LinkTests
{
    [Fact]
    public void Every_link_leads_to_a_file_and_a_heading()
    {
        var missing = new List<string>();
        int links = 0;
        foreach (Guide guide in Guide.All)
        {
            foreach (Match link in Link().Matches(Fence().Replace(guide.Text, string.Empty)))
            {
                links++;
                string[] parts = link.Groups["target"].Value.Split('#');
                string file = parts[0].Length == 0
                    ? guide.Name
                    : Path.GetRelativePath(Guide.Root, Path.Combine(Guide.Root, Path.GetDirectoryName(guide.Name)!, parts[0])).Replace('\\', '/');
                string path = Path.Combine(Guide.Root, file);
                if (!File.Exists(path) && !Directory.Exists(path))
                {
                    missing.Add($"{guide.Name}: {link.Value}");
                }
                else if (parts.Length > 1 && !Headings(path).Contains(parts[1]))
                {
                    missing.Add($"{guide.Name}: {link.Value}, no such heading");
                }
            }
        }

        Assert.Empty(missing);
        Assert.InRange(links, 30, int.MaxValue);
    }

    // A heading's name in links: lower case, spaces as hyphens, no punctuation.
    private static HashSet<string> Headings(string file) =>
        [.. Heading().Matches(File.ReadAllText(file)).Select(match => Punctuation().Replace(match.Groups[1].Value.Trim().ToLowerInvariant(), string.Empty).Replace(' ', '-'))];

    [GeneratedRegex(@"(?<!`)!?\[[^\]]*\]\((?!\w+://|mailto:)(?<target>[^)\s]+)\)")]
    private static partial Regex Link();

    [GeneratedRegex(@"^```.*?^```$", RegexOptions.Singleline | RegexOptions.Multiline)]
    private static partial Regex Fence();

    [GeneratedRegex(@"^#{1,6} (.+)$", RegexOptions.Multiline)]
    private static partial Regex Heading();

    [GeneratedRegex(@"[^\p{L}\p{N} _-]")]
    private static partial Regex Punctuation();
}
