using System.Diagnostics;

namespace KvCacheGpu;

/// <summary>Takes sequences out of a cache for a while, and puts them back: for schedulers that have to make room for others.</summary>
/// <remarks>Thread safety: as that of <see cref="KvCache"/>.</remarks>
public static class KvCacheSwapping
{
    /// <summary>Bytes of host memory that sequences take which were swapped out of a cache; <see cref="KvCacheOptions.SwapBudgetBytes"/> at most.</summary>
    public static long GetSwappedBytes(this KvCache cache)
    {
        ArgumentNullException.ThrowIfNull(cache);
        return cache.State.Swapped.Bytes;
    }

    /// <summary>
    /// Copies sequences to host memory, bit for bit, and disposes them: all of them, or none. Pages that they share are copied once, and shared again afterwards; those that a
    /// sequence outside shares stay for it.
    /// </summary>
    /// <param name="cache">The cache.</param>
    /// <param name="sequences">The sequences, each once, without a step under way. They are disposed when this has succeeded.</param>
    /// <param name="cancellationToken">Leaves all as it was.</param>
    /// <returns>What <see cref="SwapInAsync"/> makes sequences of.</returns>
    /// <remarks>
    /// What comes back goes on as if nothing had been: tokens, pages, scores, pins, segments, key scales, metadata. Not kept are a policy's own memory
    /// (<see cref="KvPolicy.CreateState"/>), the queries that are expected, and <see cref="KvSequenceReading.PageMass"/>.
    /// </remarks>
    /// <exception cref="ArgumentException">No sequence, one twice, or one of another cache.</exception>
    /// <exception cref="KvConcurrencyException">E006: a step or call is under way on one of them.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: <see cref="KvCacheOptions.SwapBudgetBytes"/> does not hold them.</exception>
    /// <exception cref="KvUnsupportedException">E009: one has merged pages.</exception>
    /// <exception cref="ObjectDisposedException">One of them was disposed.</exception>
    /// <include file="../../docs/api/examples.xml" path="examples/of[@name='KvCacheSwapping.SwapOutAsync']/*"/>
    public static Task<KvSwapped> SwapOutAsync(this KvCache cache, IReadOnlyCollection<KvSequence> sequences, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(cache);
        ArgumentNullException.ThrowIfNull(sequences);
        KvSequence[] chosen = [.. sequences];
        if (chosen.Length == 0 || Array.Exists(chosen, sequence => sequence?.Cache != cache) || chosen.Distinct().Count() != chosen.Length)
        {
            throw new ArgumentException("expected sequences of this cache, at least one, each once", nameof(sequences));
        }

        SequenceState[] states = Array.ConvertAll(chosen, sequence => sequence.State);
        return Task.Run(() => CacheOperation.SwapOut.Run(cache.State.Counts, () => SwapOut(cache, states, cancellationToken), Describe), cancellationToken);
    }

    /// <summary>Makes sequences again of those that were swapped out, all of them or none.</summary>
    /// <param name="cache">The cache that they come from, or another one of the same model.</param>
    /// <param name="swapped">What was swapped out. It is empty when this has succeeded; refused, it is as it was.</param>
    /// <param name="cancellationToken">Leaves all as it was.</param>
    /// <returns>The sequences, new ones, in the order in which they were swapped out.</returns>
    /// <exception cref="KvOutOfMemoryException">E001: there is no room for them; no policy is asked to make any.</exception>
    /// <exception cref="KvConfigurationException">E003: the cache is for another model.</exception>
    /// <exception cref="ObjectDisposedException">They were swapped in already, or disposed; or the cache was.</exception>
    public static Task<IReadOnlyList<KvSequence>> SwapInAsync(this KvCache cache, KvSwapped swapped, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(cache);
        ArgumentNullException.ThrowIfNull(swapped);
        cache.State.ThrowIfDisposed();
        return Task.Run(
            () => CacheOperation.SwapIn.Run<IReadOnlyList<KvSequence>>(
                cache.State.Counts, () => SwapIn(cache, swapped, cancellationToken), (activity, _) => Describe(activity, swapped)),
            cancellationToken);
    }

    private static void Describe(Activity activity, KvSwapped swapped) =>
        CacheOperation.Describe(activity, swapped.Lengths.Count, swapped.Lengths.Sum(length => (long)length), swapped.Bytes);

    private static KvSwapped SwapOut(KvCache cache, SequenceState[] states, CancellationToken cancel)
    {
        int entered = 0;
        long taken = 0;
        try
        {
            foreach (SequenceState state in states)
            {
                state.Settle();
                state.Gate.EnterCall();
                entered++;
            }

            SwappedPages pages = SwappedPages.Out(cache.State, states, Take, cancel);
            for (; entered > 0; entered--)
            {
                cache.Life.DisposeHeld(states[entered - 1]);
            }

            return new KvSwapped(cache.State, pages);
        }
        catch
        {
            cache.State.Swapped.Give(taken);
            throw;
        }
        finally
        {
            foreach (SequenceState state in states.AsSpan(0, entered))
            {
                state.Gate.Leave();
            }
        }

        void Take(long bytes)
        {
            cache.State.Swapped.Take(bytes);
            taken = bytes;
        }
    }

    private static KvSequence[] SwapIn(KvCache cache, KvSwapped swapped, CancellationToken cancel)
    {
        SwappedPages pages = swapped.Take();
        IReadOnlyList<SequenceState> states;
        try
        {
            states = pages.In(cache.State, cache.Life, cache.Pressure?.Evictor, cancel);
        }
        catch
        {
            swapped.PutBack(pages);
            throw;
        }

        swapped.Done();
        return [.. states.Select(state => new KvSequence(cache, state))];
    }
}
