using System.Globalization;
using System.Text;

namespace KvCacheGpu.Configuration;

/// <summary>A unified diff of two texts, by longest common subsequence of their lines; three lines of context, as patch takes it where all lines are shown.</summary>
internal static class UnifiedDiff
{
    private const int Context = 3;
    private const int MostCells = 1 << 22;

    private const string NotShown = "# (a line of another program is not shown)\n";

    /// <summary>The diff; empty where the texts are equal.</summary>
    /// <param name="path">The file's name in it.</param>
    /// <param name="before">The text before.</param>
    /// <param name="after">The text after.</param>
    /// <param name="isShown">Which lines it may show: others can hold secrets. Default: all.</param>
    public static string Of(string path, string before, string after, Func<string, bool>? isShown = null)
    {
        if (before == after)
        {
            return string.Empty;
        }

        List<string> a = TextFile.Lines(before), b = TextFile.Lines(after);
        isShown ??= _ => true;
        int head = 0, tail = 0;
        while (head < Math.Min(a.Count, b.Count) && a[head] == b[head])
        {
            head++;
        }

        while (tail < Math.Min(a.Count, b.Count) - head && a[^(tail + 1)] == b[^(tail + 1)])
        {
            tail++;
        }

        // One hunk: edits of a configuration lie close together.
        int from = Math.Max(0, head - Context), rest = Math.Min(tail, Context);
        var hunk = new StringBuilder();
        int aCount = a.Count - tail + rest - from, bCount = b.Count - tail + rest - from;
        hunk.Append(CultureInfo.InvariantCulture, $"--- a/{path}\n+++ b/{path}\n@@ -{Range(from, aCount)} +{Range(from, bCount)} @@\n");
        a[from..head].ForEach(line => Line(hunk, ' ', line, isShown));
        Middle(hunk, a[head..^tail], b[head..^tail], isShown);
        a[(a.Count - tail)..(a.Count - tail + rest)].ForEach(line => Line(hunk, ' ', line, isShown));
        return hunk.ToString();
    }

    private static void Middle(StringBuilder hunk, List<string> a, List<string> b, Func<string, bool> isShown)
    {
        if ((long)a.Count * b.Count > MostCells)
        {
            a.ForEach(line => Line(hunk, '-', line, isShown));
            b.ForEach(line => Line(hunk, '+', line, isShown));
            return;
        }

        // common[i, j]: lines that the tails from i and j have in common.
        int[,] common = new int[a.Count + 1, b.Count + 1];
        for (int i = a.Count - 1; i >= 0; i--)
        {
            for (int j = b.Count - 1; j >= 0; j--)
            {
                common[i, j] = a[i] == b[j] ? common[i + 1, j + 1] + 1 : Math.Max(common[i + 1, j], common[i, j + 1]);
            }
        }

        for (int i = 0, j = 0; i < a.Count || j < b.Count;)
        {
            if (i < a.Count && j < b.Count && a[i] == b[j])
            {
                Line(hunk, ' ', a[i], isShown);
                (i, j) = (i + 1, j + 1);
            }
            else if (i < a.Count && (j == b.Count || common[i + 1, j] >= common[i, j + 1]))
            {
                Line(hunk, '-', a[i++], isShown);
            }
            else
            {
                Line(hunk, '+', b[j++], isShown);
            }
        }
    }

    private static string Range(int from, int count) => string.Create(CultureInfo.InvariantCulture, $"{(count == 0 ? from : from + 1)},{count}");

    private static void Line(StringBuilder hunk, char sign, string line, Func<string, bool> isShown)
    {
        line = isShown(line) ? line : NotShown;
        hunk.Append(sign).Append(line);
        if (!line.EndsWith('\n'))
        {
            hunk.Append("\n\\ No newline at end of file\n");
        }
    }
}
