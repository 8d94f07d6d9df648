namespace KvCacheGpu.Llama.Tests;

/// <summary>Patterns by which words are cut: syntax that means the same in both engines, matched by code points, in limited time.</summary>
public sealed class PatternTests
{
    [Theory]
    [InlineData(@"\p{L}+", "x\U0001d538\U00020bb7 y", "x\U0001d538\U00020bb7| |y")]
    [InlineData(@"[^\s\p{L}]+", "\U0001f642!a\U00010400", "\U0001f642!|a\U00010400")]
    [InlineData(@"\p{Lu}\p{Ll}", "\U00010400\U00010428\U00010428", "\U00010400\U00010428|\U00010428")]
    [InlineData(@"\p{N}{1,2}", "\U0001d7d8\U0001d7d9\U0001d7da", "\U0001d7d8\U0001d7d9|\U0001d7da")]
    [InlineData("[\u4e00-\ufa00]+", "\u4e01\U00020bb7\u4e02", "\u4e01|\U00020bb7|\u4e02")]
    [InlineData("[^\u3041]+", "\U00020bb7\u3041", "\U00020bb7|\u3041")]
    [InlineData("(?i:'s|'k)", "'S'\u017f'\u212a'K's'ks", "'S|'\u017f|'\u212a|'K|'s|'k|s")]
    [InlineData(".", "a\n\U0001f642", "a|\n|\U0001f642")]
    [InlineData(@"a+?b??|x{2}|\u0031", "aabxx1", "a|a|b|xx|1")]
    [InlineData(@"[\]\-a]+", "b]-ab", "b|]-a|b")]
    [InlineData("b*", "abba", "a|bb|a")]
    [InlineData(@"\s+(?!\S)|\s+", "a   b  ", "a|  | |b|  ")]
    public void Words_are_cut_by_code_points(string pattern, string text, string expected) =>
        Assert.Equal(expected, string.Join('|', WordPattern.Read("file", pattern).Cut(text).Select(p => text[p.Start..p.End])));

    [Fact]
    public void A_surrogate_without_its_other_half_stays_a_piece_of_text()
    {
        WordPattern pattern = WordPattern.Read("file", @"\p{L}+");
        Assert.Equal([(0, 1, true), (1, 2, false), (2, 5, true), (5, 6, false)], pattern.Cut("a\ud800b\U0001d538\udc00"));
    }

    [Fact]
    public void A_letter_that_nothing_can_stand_in_for_is_refused()
    {
        WordPattern pattern = WordPattern.Read("file", "[\u0080-\uffff]+");
        Assert.Equal(2, pattern.Cut("ab\u00e9").Count);
        Assert.Equal("E009", Assert.Throws<LlamaFormatException>(() => pattern.Cut("\U00020bb7")).Code);
    }

    // These mean different things in .NET and Oniguruma, or one of them does not accept them.
    [Theory]
    [InlineData("a$")]
    [InlineData("^a")]
    [InlineData(@"\w+")]
    [InlineData(@"\bword")]
    [InlineData(@"\h")]
    [InlineData("[[:alpha:]]")]
    [InlineData("[a-z&&[^b]]")]
    [InlineData("[a-z-[b]]")]
    [InlineData(@"\p{Han}")]
    [InlineData(@"\p{^L}")]
    [InlineData(@"\pL")]
    [InlineData("a++")]
    [InlineData("a{,3}")]
    [InlineData("a{2}?")]
    [InlineData("(?<=a)b")]
    [InlineData("(?<name>a)")]
    [InlineData("(?>a)")]
    [InlineData("(?m)a")]
    [InlineData(@"(a)\1")]
    [InlineData("(?i:[ab])")]
    [InlineData("(?i:\u00e9)")]
    [InlineData("[\U00010400-\U00010410]")]
    [InlineData("\U0001f642")]
    [InlineData("((a{500}){500}){500}")]
    [InlineData("")]
    public void What_the_two_engines_read_otherwise_is_refused_by_name(string pattern)
    {
        LlamaFormatException error = Assert.Throws<LlamaFormatException>(() => WordPattern.Read("file", pattern));
        Assert.Equal("E009", error.Code);
        Assert.StartsWith("E009: file: pre_tokenizer: only ", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("(a")]
    [InlineData("a)")]
    [InlineData("[a")]
    [InlineData("a{3,2}")]
    public void What_is_no_pattern_is_refused(string pattern) =>
        Assert.Equal("E004", Assert.Throws<LlamaFormatException>(() => WordPattern.Read("file", pattern)).Code);

    [Fact]
    public void A_pattern_that_would_run_away_is_matched_in_linear_time()
    {
        // 2^60 ways to split the letters, for an engine that tries them.
        string text = new string('b', 60) + "!";
        Assert.Equal(61, WordPattern.Read("file", "(?:b|bb)+c|b|!").Cut(text).Count);
    }

    [Fact]
    public void A_pattern_that_runs_away_in_a_look_ahead_is_a_typed_error()
    {
        WordPattern pattern = WordPattern.Read("file", "(?:b|bb)+(?!d)c");
        LlamaFormatException error = Assert.Throws<LlamaFormatException>(() => pattern.Cut(new string('b', 60) + "!c"));
        Assert.Equal("E009", error.Code);
        Assert.Contains("runs away", error.Message, StringComparison.Ordinal);
    }
}
