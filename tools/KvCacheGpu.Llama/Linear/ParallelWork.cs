namespace KvCacheGpu.Llama;

/// <summary>Work that falls into independent items, run on all cores.</summary>
internal abstract class ParallelWork
{
    private readonly Action<int> _execute;

    protected ParallelWork() => _execute = Execute;

    /// <summary>Runs items 0 .. <paramref name="items"/> - 1 and returns when all are done.</summary>
    public void Run(int items)
    {
        if (items == 1)
        {
            Execute(0);
        }
        else
        {
            Parallel.For(0, items, _execute);
        }
    }

    /// <summary>Does one item.</summary>
    protected abstract void Execute(int item);
}
