using System.Globalization;
using System.Text.RegularExpressions;

namespace KvCacheGpu.Cli.Tests;

public sealed partial class BudgetTests
{
    [Theory]
    [InlineData("67108864", 67108864L)]
    [InlineData("64MiB", 64L << 20)]
    [InlineData("64 mib", 64L << 20)]
    [InlineData("1.5GB", 1_500_000_000L)]
    [InlineData("1.5GiB", 1_610_612_736L)]
    [InlineData("2KB", 2000L)]
    [InlineData("2KiB", 2048L)]
    [InlineData("1TiB", 1L << 40)]
    [InlineData("12B", 12L)]
    public void Bytes_are_read_with_their_unit(string text, long bytes)
    {
        Assert.True(MemoryBudget.TryParse(text, out MemoryBudget? budget));
        Assert.Equal(new MemoryBudget(bytes, null), budget);
    }

    [Theory]
    [InlineData("25%", 25)]
    [InlineData("12.5 %", 12.5)]
    [InlineData("150%", 150)]
    public void Percentages_are_of_the_dense_cache(string text, double percent)
    {
        Assert.True(MemoryBudget.TryParse(text, out MemoryBudget? budget));
        Assert.Equal(new MemoryBudget(null, percent), budget);
        Assert.Equal((long)(percent * 2048 * 10 / 100), budget!.BytesFor(new KvGeometry(4, 4, 2, 64), 10));
    }

    [Theory]
    [InlineData("")]
    [InlineData("%")]
    [InlineData("MiB")]
    [InlineData("0")]
    [InlineData("-5")]
    [InlineData("1,5GB")]
    [InlineData("1e9")]
    [InlineData("1.5")]
    [InlineData("64M")]
    [InlineData("0.0001KB")]
    [InlineData("99999999999999999999GB")]
    [InlineData("9000000000TiB")]
    public void Anything_else_is_refused(string text) => Assert.False(MemoryBudget.TryParse(text, out _));

    [Fact]
    public void A_budget_below_the_minimum_is_refused_with_a_minimum_that_works()
    {
        string[] run = ["run", "--prompt-tokens", "5,6,7", "--max-new-tokens", "4", "--memory-budget"];
        long minimum = Minimum(Tool.Refused(2, "E003", [.. run, "10KB"]));
        Assert.Equal(minimum, Minimum(Tool.Refused(2, "E003", [.. run, "25%"])));
        Tool.Refused(2, "E003", [.. run, Invariant(minimum - 1)]);
        Tool.Json([.. run, Invariant(minimum)]);
    }

    [Fact]
    public void A_budget_that_the_tokens_do_not_fit_is_refused_before_the_first_with_bytes_that_suffice()
    {
        string[] run = ["run", "--prompt", "In the beginning", "--max-new-tokens", "900", "--memory-budget"];
        long enough = Minimum(Tool.Refused(1, "E001", [.. run, "1MiB"]));
        Assert.Equal(900, Tool.Json([.. run, Invariant(enough)]).Ints("tokens").Length);
        // A window makes the same budget do.
        Assert.Equal(900, Tool.Json([.. run, "1MiB", "--policy", "window:64"]).Ints("tokens").Length);
    }

    private static string Invariant(long bytes) => bytes.ToString(CultureInfo.InvariantCulture);

    private static long Minimum(string error) => long.Parse(AtLeast().Match(error).Groups[1].Value, CultureInfo.InvariantCulture);

    [GeneratedRegex("at least ([0-9]+) bytes")]
    private static partial Regex AtLeast();
}
