namespace KvCacheGpu.Tests;

/// <summary>Every bad input is a typed error with what was expected and what was there; the state is as before.</summary>
public sealed class BadInputTests : IDisposable
{
    private static readonly KvGeometry G = TestCaches.Tiny;
    private readonly KvCache _cache = TestCaches.Reference(G, TestCaches.Config());
    private readonly KvSequence _sequence;

    public BadInputTests()
    {
        _sequence = _cache.CreateSequence();
        _sequence.FeedMany(1, 10);
    }

    public void Dispose() => _cache.Dispose();

    [Fact]
    public void Zero_tokens_and_too_many_are_refused()
    {
        Unchanged(() => Assert.Contains("at least 1 token", Assert.Throws<ArgumentException>(() => _sequence.Begin([])).Message, StringComparison.Ordinal));
        Unchanged(() => Assert.Contains("got 33", Assert.Throws<ArgumentException>(() => _sequence.Begin(new int[33])).Message, StringComparison.Ordinal));
        Assert.False(_sequence.CanAppend(0));
        Assert.False(_sequence.CanAppend(33));
        Assert.True(_sequence.CanAppend(32));
    }

    [Fact]
    public void Beyond_MaxTokens_is_E001_with_both_numbers()
    {
        _sequence.FeedMany(11, 240);
        Unchanged(() =>
        {
            KvOutOfMemoryException refused = Assert.Throws<KvOutOfMemoryException>(() => _sequence.Begin(new int[7]));
            Assert.Equal(("E001", "at most 6 tokens", "7 tokens"), (refused.Code, refused.Expected, refused.Actual));
        });
    }

    [Fact]
    public void Wrong_shapes_are_refused_and_the_step_goes_on()
    {
        using KvStep step = _sequence.Begin([11, 12]);
        float[] right = TokenContent.Keys(G, 0, [11, 12]);
        Assert.Contains("expected 32", Assert.Throws<ArgumentException>(() => step.Append(0, new float[31], right)).Message, StringComparison.Ordinal);
        Assert.Contains("got 33", Assert.Throws<ArgumentException>(() => step.Append(0, right, new float[33])).Message, StringComparison.Ordinal);
        step.Append(0, right, right);
        float[] queries = TokenContent.Queries(G, 0, [11, 12]);
        Assert.Throws<ArgumentException>("queries", () => step.Attend(0, right, new float[64]));
        Assert.Contains("at least 64", Assert.Throws<ArgumentException>("output", () => step.Attend(0, queries, new float[63])).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>("logSumExp", () => step.Attend(0, queries, KvOutput.FromHost(new float[64], new float[7])));
        step.Attend(0, queries, KvOutput.FromHost(new float[64], new float[8]));
        step.Append(1, right, right);
        step.Commit();
        Assert.Equal(12, _sequence.Length);
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(2)]
    public void A_layer_that_does_not_exist_is_out_of_range(int layer)
    {
        using KvStep step = _sequence.Begin([11]);
        float[] keys = TokenContent.Keys(G, 0, [11]);
        Assert.Equal(layer, Assert.Throws<ArgumentOutOfRangeException>(() => step.Append(layer, keys, keys)).ActualValue);
        Assert.Throws<ArgumentOutOfRangeException>(() => step.Attend(layer, TokenContent.Queries(G, 0, [11]), new float[32]));
        step.Dispose();
        Assert.Throws<ArgumentOutOfRangeException>(() => _sequence.Materialize(layer, [], []));
        Assert.Throws<ArgumentOutOfRangeException>(() => _sequence.ResidentTokens(0, layer));
        Assert.Throws<ArgumentOutOfRangeException>(() => _sequence.PageMass(0, layer * 2, new float[8]));
    }

    [Fact]
    public void Layers_out_of_order_are_E010_and_the_step_goes_on()
    {
        using KvStep step = _sequence.Begin([11]);
        float[] keys = TokenContent.Keys(G, 0, [11]);
        KvStepOrderException early = Assert.Throws<KvStepOrderException>(() => step.Append(1, keys, keys));
        Assert.Equal(("E010", "layer 0", "layer 1"), (early.Code, early.Expected, early.Actual));
        Assert.Throws<KvStepOrderException>(() => step.Attend(0, TokenContent.Queries(G, 0, [11]), new float[32]));
        step.Append(0, keys, keys);
        Assert.Throws<KvStepOrderException>(() => step.Append(0, keys, keys));
        KvStepOrderException missing = Assert.Throws<KvStepOrderException>(step.Commit);
        Assert.Equal(("2 layers appended", "1"), (missing.Expected, missing.Actual));
        step.Append(1, keys, keys);
        step.Commit();
        Assert.Equal(11, _sequence.Length);
    }

    [Theory]
    [InlineData(float.NaN, false)]
    [InlineData(float.PositiveInfinity, true)]
    public void What_is_not_finite_rolls_the_step_back(float bad, bool inValues)
    {
        Unchanged(() =>
        {
            using KvStep step = _sequence.Begin([11, 12]);
            float[] keys = TokenContent.Keys(G, 0, [11, 12]);
            float[] values = TokenContent.Values(G, 0, [11, 12]);
            step.Append(0, keys, values);
            (inValues ? values : keys)[24] = bad;
            step.Append(1, keys, values);
            KvNonFiniteException refused = Assert.Throws<KvNonFiniteException>(step.Commit);
            Assert.Equal((1, 1, 1, inValues, "E004"), (refused.Layer, refused.Token, refused.Head, refused.IsValue, refused.Code));
        });
    }

    [Fact]
    public void A_step_that_has_ended_and_a_disposed_sequence_say_so()
    {
        KvStep step = _sequence.Begin([11]);
        step.Dispose();
        step.Dispose();
        Assert.Throws<ObjectDisposedException>(step.Commit);
        Assert.Throws<ObjectDisposedException>(() => step.Append(0, new float[16], new float[16]));
        _sequence.Dispose();
        _sequence.Dispose();
        Assert.Throws<ObjectDisposedException>(() => _sequence.Length);
        Assert.Throws<ObjectDisposedException>(() => _sequence.Begin([1]));
        Assert.Throws<ObjectDisposedException>(_sequence.Fork);
        Assert.Throws<ObjectDisposedException>(() => _sequence.Truncate(0));
        Assert.Throws<ObjectDisposedException>(() => _cache.Begin([_sequence], [1], [1]));
        _cache.Dispose();
        Assert.Throws<ObjectDisposedException>(_cache.CreateSequence);
    }

    [Fact]
    public void Saving_and_loading_check_what_they_are_given_before_they_begin()
    {
        SnapshotStore store = new(Path.Combine(Path.GetTempPath(), "kvcache-never-made"));
        BothRefuse<ArgumentNullException>(null!, "a");
        BothRefuse<ArgumentNullException>(store, default);
        BothRefuse<ArgumentException>(store, string.Empty);
        _cache.Dispose();
        BothRefuse<ObjectDisposedException>(store, "a");

        // Thrown by the call, not by the task.
        void BothRefuse<T>(SnapshotStore where, SnapshotName name)
            where T : Exception
        {
            (Action save, Action load) = (() => _ = _cache.SaveAsync(where, name), () => _ = _cache.LoadAsync(where, name));
            Assert.Throws<T>(save);
            Assert.Throws<T>(load);
        }
    }

    [Fact]
    public void A_sequence_in_a_step_takes_no_other_call()
    {
        using KvStep step = _sequence.Begin([11]);
        Assert.Equal("E006", Assert.Throws<KvConcurrencyException>(() => _sequence.Begin([12])).Code);
        Assert.Throws<KvConcurrencyException>(_sequence.Fork);
        Assert.Throws<KvConcurrencyException>(() => _sequence.Truncate(1));
        Assert.Throws<KvConcurrencyException>(() => _sequence.CanAppend(1));
        Assert.Equal(10, _sequence.Length);
    }

    [Fact]
    public void Disposing_a_sequence_in_a_step_abandons_it()
    {
        KvStep step = _sequence.Begin([11]);
        _sequence.Dispose();
        Assert.Throws<ObjectDisposedException>(step.Commit);
        Assert.Equal(default, _cache.GetPageCounts());
    }

    [Fact]
    public void Lengths_and_targets_out_of_range_are_refused()
    {
        Unchanged(() =>
        {
            Assert.Throws<ArgumentOutOfRangeException>(() => _sequence.Truncate(-1));
            Assert.Throws<ArgumentOutOfRangeException>(() => _sequence.Truncate(11));
            Assert.Contains("at least 160", Assert.Throws<ArgumentException>("keys", () => _sequence.Materialize(0, new float[159], [])).Message, StringComparison.Ordinal);
            Assert.Throws<ArgumentException>("positions", () => _sequence.ResidentPositions(0, 0, new int[9]));
        });
    }

    private void Unchanged(Action bad)
    {
        (int length, long bytes, KvPageCounts pages) = (_sequence.Length, _cache.AllocatedBytes, _cache.GetPageCounts());
        (float[] keys, float[] values) = _sequence.Materialized(1);
        bad();
        Assert.Equal((length, bytes, pages), (_sequence.Length, _cache.AllocatedBytes, _cache.GetPageCounts()));
        (float[] keysAfter, float[] valuesAfter) = _sequence.Materialized(1);
        Assert.Equal(keys, keysAfter);
        Assert.Equal(values, valuesAfter);
    }
}
