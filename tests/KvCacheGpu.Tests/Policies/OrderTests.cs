namespace KvCacheGpu.Tests;

/// <summary>Keys of pages are sorted as numbers are, whatever the scores.</summary>
public class OrderTests
{
    private static readonly int[] _counts = [0, 1, 2, 63, 64, 65, 512, 3000];
    private static readonly string[] _scores = ["any", "few", "equal", "ascending", "descending", "one byte", "signs"];

    public static TheoryData<int, string> Cases
    {
        get
        {
            TheoryData<int, string> cases = [];
            foreach ((int count, string scores) in _counts.SelectMany(count => _scores.Select(scores => (count, scores))))
            {
                cases.Add(count, scores);
            }

            return cases;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Keys_are_sorted_by_score_and_the_last_page_of_equal_ones_is_first(int count, string scores)
    {
        var random = new Random(count);
        ulong[] keys = [.. Enumerable.Range(0, count).Select(page => Order.Key(
            scores switch
            {
                "any" => BitConverter.Int32BitsToSingle(random.Next(int.MinValue, int.MaxValue)),
                "few" => random.Next(4),
                "equal" => 1.5f,
                "ascending" => page,
                "descending" => -page,
                "one byte" => 1 + (random.Next(100) * MathF.Pow(2, -23)),
                _ => random.Next(2) == 0 ? -0f : 0f - random.Next(2),
            },
            page + 7))];
        ulong[] expected = [.. keys.Order()];

        Order.Sort(keys, new ulong[count + 3]);

        Assert.Equal(expected, keys);
    }
}
