namespace KvCacheGpu.Tests;

/// <summary>The order of gates is asserted where a debug build enters them.</summary>
public class GateTests
{
    [Fact]
    public void Later_gates_and_the_same_again_are_entered_from_inside_of_earlier_ones()
    {
        var gates = Enum.GetValues<GateOrder>().Select(place => new Gate(place)).ToArray();
        using (gates[0].Enter())
        using (gates[1].Enter())
        using (gates[2].Enter())
        using (gates[2].Enter())
        using (gates[3].Enter())
        {
            Assert.True(gates[3].TryEnter(TimeSpan.Zero));
            gates[3].Leave();
        }

        // All were left: another thread enters the last one at once.
        bool entered = false;
        var thread = new Thread(() => entered = gates[3].TryEnter(TimeSpan.Zero));
        thread.Start();
        thread.Join();
        Assert.True(entered);
    }

#if DEBUG
    [Theory]
    [InlineData(nameof(GateOrder.Device), nameof(GateOrder.Pool))]
    [InlineData(nameof(GateOrder.Device), nameof(GateOrder.Capture))]
    [InlineData(nameof(GateOrder.Pool), nameof(GateOrder.Plan))]
    public void An_earlier_gate_is_refused_from_inside_of_a_later_one(string inside, string entered)
    {
        (Gate later, Gate earlier) = (new Gate(Enum.Parse<GateOrder>(inside)), new Gate(Enum.Parse<GateOrder>(entered)));
        using (later.Enter())
        {
            Assert.Contains($"gate {entered}", Assert.ThrowsAny<Exception>(() => earlier.Enter().Dispose()).Message, StringComparison.Ordinal);
        }

        earlier.Enter().Dispose();
    }
#endif
}
