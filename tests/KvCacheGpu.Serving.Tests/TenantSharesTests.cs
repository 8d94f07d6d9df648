namespace KvCacheGpu.Serving.Tests;

/// <summary>What tenants were served, and what is remembered of it.</summary>
public class TenantSharesTests
{
    [Fact]
    public void Who_comes_back_begins_at_the_least_of_those_that_are_there()
    {
        TenantShares shares = new(new Dictionary<string, double> { ["half"] = .5 });
        shares.Enter("a");
        shares.Charge("a", 10, 5);
        Assert.Equal(20, shares.Of("a"));
        shares.Enter(null);
        Assert.Equal(20, shares.Of(null));
        shares.Charge(null, 4, 0);
        shares.Enter("half");
        shares.Charge("half", 4, 0);
        Assert.Equal((20, 24, 28), (shares.Of("a"), shares.Of(null), shares.Of("half")));

        // Who leaves with more than the least keeps it.
        shares.Leave("half");
        shares.Enter("half");
        Assert.Equal(28, shares.Of("half"));
    }

    [Fact]
    public void Tenants_that_left_are_forgotten_in_the_end()
    {
        TenantShares shares = new(null);
        shares.Enter("stays");
        for (int i = 0; i < 1000; i++)
        {
            shares.Enter($"t{i}");
            shares.Charge($"t{i}", 1, 0);
            shares.Charge("stays", 1, 0);
            shares.Leave($"t{i}");
        }

        Assert.InRange(shares.Count, 1, 3);
        shares.Leave("stays");
        Assert.Equal(0, shares.Count);
    }
}
