using System.Diagnostics;

namespace KvCacheGpu;

/// <summary>
/// The order in which one thread may enter gates: a thread inside of one enters only those that come later here. A sequence's own gate and a
/// step's (SequenceGate, StepGate) come between <see cref="Capture"/> and <see cref="Plan"/>.
/// </summary>
internal enum GateOrder
{
    /// <summary>One capture of a snapshot at a time.</summary>
    Capture,

    /// <summary>The memory that plans are made in: one plan at a time.</summary>
    Plan,

    /// <summary>References to pages, free slots, the prefix index, the ledger's budget.</summary>
    Pool,

    /// <summary>Which sequence is under which table of key scales, and the learning of a table.</summary>
    Scales,

    /// <summary>The pages in host memory that one attention has on the device.</summary>
    Stage,

    /// <summary>Reads and rewrites of pages outside of a step's launches.</summary>
    Device,
}

/// <summary>A lock that knows its place in the order. A debug build asserts the order at every entry; a release build costs what a lock costs.</summary>
internal sealed class Gate(GateOrder place)
{
    // How often the thread is inside of gates of each place, 8 bits for each.
    [ThreadStatic]
    private static ulong s_inside;

    private readonly Lock _lock = new();

    /// <summary>Enters, and leaves when the scope is disposed. A thread may enter again what it is inside of.</summary>
    public Scope Enter()
    {
        AssertOrder();
        _lock.Enter();
        Note(1);
        return new Scope(this);
    }

    /// <summary>Waits for the gate until a time has passed.</summary>
    /// <returns>False if the time has passed; else the caller is inside, until <see cref="Leave"/>.</returns>
    public bool TryEnter(TimeSpan timeout)
    {
        AssertOrder();
        bool entered = _lock.TryEnter(timeout);
        if (entered)
        {
            Note(1);
        }

        return entered;
    }

    /// <summary>Leaves what <see cref="TryEnter"/> has entered.</summary>
    public void Leave()
    {
        Note(-1);
        _lock.Exit();
    }

    [Conditional("DEBUG")]
    private void AssertOrder() =>
        Debug.Assert(s_inside >> (8 * (int)place) >> 8 == 0, $"gate {place} is entered from inside of a later one: see {nameof(GateOrder)}");

    [Conditional("DEBUG")]
    private void Note(int change) => s_inside += (ulong)((long)change << (8 * (int)place));

    /// <summary>Being inside of a gate.</summary>
    public readonly ref struct Scope(Gate gate)
    {
        public void Dispose() => gate.Leave();
    }
}
