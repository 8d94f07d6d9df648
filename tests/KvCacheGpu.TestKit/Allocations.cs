namespace KvCacheGpu.TestKit;

/// <summary>Managed bytes that calls allocate on the calling thread.</summary>
public static class Allocations
{
    /// <summary>
    /// Measures a call. Where garbage was collected meanwhile, which other tests' threads may begin, the runtime counts the rest of the thread's allocation buffer
    /// as allocated: then the call is measured again.
    /// </summary>
    /// <param name="call">May be made again and again.</param>
    public static long Of(Action call)
    {
        ArgumentNullException.ThrowIfNull(call);
        while (true)
        {
            int collections = GC.CollectionCount(0);
            long before = GC.GetAllocatedBytesForCurrentThread();
            call();
            long bytes = GC.GetAllocatedBytesForCurrentThread() - before;
            if (bytes == 0 || collections == GC.CollectionCount(0))
            {
                return bytes;
            }
        }
    }
}
