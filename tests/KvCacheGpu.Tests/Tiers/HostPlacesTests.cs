using static KvCacheGpu.Tests.Tiers.TierBlocks;

namespace KvCacheGpu.Tests.Tiers;

/// <summary>The places of blocks in host memory, by number: scenarios 20 and 24 of the conformance list.</summary>
public class HostPlacesTests
{
    private readonly HostPlaces _places = new(4);

    [Fact]
    public void Scenario_20_stores_and_loads_have_two_phases()
    {
        HostPlace[] first = Stores([1, 2], places: [0, 1], evicts: []);
        Assert.Equal(0, Found(1, 2));
        _places.CompleteStore(first, true);
        Assert.Equal((1, 2, 2), (Found(1), Found(1, 2), Found(1, 2, 3)));

        HostPlace[] second = Stores([2, 3, 4, 5], places: [2, 3, 0], evicts: [1]);
        Refuses(1, 6);
        _places.CompleteStore(second, true);

        int[] loading = new int[2];
        Assert.Equal(2, _places.PrepareLoad(Keys(2, 3), 1, loading));
        Assert.Equal([1, 2], loading);
        Refuses(6, 7, 8);
        _places.CompleteLoad(Keys(2, 3));
        _places.CompleteStore(Stores([6, 7, 8], places: [1, 2, 3], evicts: [2, 3, 4]), true);

        _places.Touch(Keys(5, 6, 7));
        HostPlace[] last = Stores([7, 9], places: [3], evicts: [8]);
        _places.CompleteStore(last, false);
        Assert.Equal((1, 1, 0), (Found(7), Found(7, 9), Found(9)));
    }

    [Fact]
    public void Scenario_24_a_place_that_was_never_filled_is_never_a_hit()
    {
        HostPlace[] pending = Stores([1, 2, 3, 4], places: [0, 1, 2, 3], evicts: []);
        Assert.Equal(0, Found(1));
        Assert.Equal(0, _places.PrepareLoad(Keys(1), 1, new int[1]));
        Refuses(5);
        _places.CompleteStore(pending.AsSpan(0, 1), true);
        _places.CompleteStore(pending.AsSpan(1), false);
        Assert.Equal((1, 0, 1), (Found(1, 2), Found(2), _places.Bytes));
        Stores([2, 5, 6], places: [1, 2, 3], evicts: []);
        Assert.Equal(0, Found(2));
    }

    [Fact]
    public void What_a_store_names_is_not_evicted_for_it()
    {
        _places.CompleteStore(Stores([1, 2, 3, 4], places: [0, 1, 2, 3], evicts: []), true);
        Stores([1, 5], places: [1], evicts: [2]);
        Refuses(1, 3, 4, 6);
    }

    [Fact]
    public void A_block_of_another_length_is_not_found() =>
        Assert.Equal((1, 0), (Filled(7, 2), _places.Find(Keys(7), 1)));

    [Fact]
    public void Blocks_of_several_lengths_share_the_limit()
    {
        Filled(1, 1);
        Filled(2, 1);
        Filled(3, 2);
        List<HostPlace> stored = [], evicted = [];
        Assert.True(_places.PrepareStore(Keys(4), 3, stored, evicted));
        Assert.Equal(Keys(1, 2, 3), evicted.Select(place => place.Key));
        Assert.Equal(3, _places.Bytes);
    }

    [Fact]
    public void A_store_that_names_a_block_twice_stores_it_once()
    {
        HostPlace[] stored = Stores([1, 1, 2, 1], places: [0, 1], evicts: []);
        _places.CompleteStore(stored, true);
        Assert.Equal((2, 2), (Found(1, 2), _places.Bytes));
    }

    [Fact]
    public void What_several_load_stays_until_the_last_of_them_has_ended()
    {
        _places.CompleteStore(Stores([1, 2, 3, 4], places: [0, 1, 2, 3], evicts: []), true);
        _places.PrepareLoad(Keys(1), 1, new int[1]);
        _places.PrepareLoad(Keys(1), 1, new int[1]);
        _places.CompleteLoad(Keys(1));
        Stores([5], places: [1], evicts: [2]);
        _places.CompleteLoad(Keys(1));
        Stores([6], places: [0], evicts: [1]);
    }

    private int Filled(int number, int bytes)
    {
        List<HostPlace> stored = [];
        Assert.True(_places.PrepareStore(Keys(number), bytes, stored, []));
        _places.CompleteStore([.. stored], true);
        return _places.Find(Keys(number), bytes);
    }

    private int Found(params int[] numbers) => _places.Find(Keys(numbers), 1);

    private HostPlace[] Stores(int[] numbers, int[] places, int[] evicts)
    {
        List<HostPlace> stored = [], evicted = [];
        Assert.True(_places.PrepareStore(Keys(numbers), 1, stored, evicted));
        Assert.Equal(places, stored.Select(place => place.Number));
        Assert.Equal(Keys(evicts), evicted.Select(place => place.Key));
        return [.. stored];
    }

    private void Refuses(params int[] numbers)
    {
        long before = _places.Bytes;
        List<HostPlace> stored = [], evicted = [];
        Assert.False(_places.PrepareStore(Keys(numbers), 1, stored, evicted));
        Assert.Empty(stored);
        Assert.Empty(evicted);
        Assert.Equal(before, _places.Bytes);
    }
}
