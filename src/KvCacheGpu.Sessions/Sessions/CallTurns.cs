using System.Diagnostics.CodeAnalysis;

namespace KvCacheGpu;

/// <summary>
/// Lets calls into the cache side by side. If the budget has working memory for fewer of them, a call that lacked it comes again alone: all others
/// have ended by then, and given back what they held.
/// </summary>
[SuppressMessage("Design", "CA1001", Justification = "A call may still be inside when the engine ends: the runtime takes back what the lock holds.")]
internal sealed class CallTurns
{
    private readonly ReaderWriterLockSlim _turns = new();

    /// <summary>Waits for a turn, which ends when it is disposed. A thread has one at a time.</summary>
    /// <param name="alone">True if no other call may be inside.</param>
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
