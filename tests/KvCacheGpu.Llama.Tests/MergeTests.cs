namespace KvCacheGpu.Llama.Tests;

/// <summary>Joining the letters of a word: in order, and in time that grows little more than the word.</summary>
public sealed class MergeTests
{
    [Theory]
    [InlineData("aaa", "aa|a")]
    [InlineData("aaaaa", "aaaa|a")]
    [InlineData("aaaaaaa", "aaaa|aa|a")]
    [InlineData("baab", "b|aa|b")]
    [InlineData("a", "a")]
    public void Of_equal_pairs_the_leftmost_is_joined_first(string word, string expected)
    {
        Runs table = new();
        Assert.Equal(expected, string.Join('|', PairMerger.Merge(table, word, Letters(word)).Select(p => word.Substring(p.Start, p.Length))));
    }

    [Theory]
    [InlineData(1 << 10)]
    [InlineData(1 << 14)]
    [InlineData(1 << 18)]
    public void A_word_of_n_letters_takes_a_few_looks_a_letter(int letters)
    {
        Runs table = new();
        string word = new('a', letters);
        Assert.Equal(letters / 4, PairMerger.Merge(table, word, Letters(word)).Count);

        // Each letter is looked at with its neighbour, each join with two, each queued pair again when its turn comes.
        Assert.InRange(table.Looks, letters, 6L * letters);
    }

    private static List<WordPart> Letters(string word) => [.. word.Select((_, i) => new WordPart(0, i, 1))];

    // Two equal parts of at most two letters.
    private sealed class Runs : IPairTable
    {
        public long Looks { get; private set; }

        public bool TryJoin(string word, WordPart left, WordPart right, out int id, out int rank)
        {
            Looks++;
            (id, rank) = (0, left.Length);
            return left.Length == right.Length && left.Length <= 2 && !word.AsSpan(left.Start, left.Length + right.Length).ContainsAnyExcept('a');
        }
    }
}
