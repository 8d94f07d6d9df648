using System.Diagnostics.CodeAnalysis;

namespace KvCacheGpu;

/// <summary>
/// Lets an engine's calls into its cache side by side. Where the budget has working memory for fewer, a call that lacked it comes again alone: every
/// other has ended by then, and given back what it held.
/// </summary>
[SuppressMessage("Design", "CA1001", Justification = "A call may still be inside when the engine ends: what the lock holds then, the runtime takes back.")]
internal sealed class CallTurns
{
    private readonly ReaderWriterLockSlim _turns = new();

    /// <summary>Waits for a turn, which ends when it is disposed. A thread has one at a time.</summary>
    /// <param name="alone">Whether no other call shall be inside.</param>
    public Turn Enter(bool alone)
    {
        if (alone)
        {
            _turns.EnterWriteLock();
        }
        else
        {
            _turns.EnterReadLock();
        }

        return new Turn(_turns, alone);
    }

    /// <summary>A call's time inside.</summary>
    public readonly ref struct Turn(ReaderWriterLockSlim turns, bool alone)
    {
        public void Dispose()
        {
            if (alone)
            {
                turns.ExitWriteLock();
            }
            else
            {
                turns.ExitReadLock();
            }
        }
    }
}
