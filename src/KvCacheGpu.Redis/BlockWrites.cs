using System.Buffers;
using StackExchange.Redis;

namespace KvCacheGpu;

/// <summary>
/// Writes a run of blocks, several commands under way at once. First it asks for the lengths of all values: blocks that are there are not sent again, and a value of
/// another length is replaced.
/// </summary>
/// <param name="frame">Names of keys and values.</param>
/// <param name="keys">Keys.</param>
/// <param name="blocks">The blocks. They are copied before they are sent: a command that outlives the call must not read what is the caller's again.</param>
/// <param name="options">Time to live, and bytes that are under way at once.</param>
internal sealed class BlockWrites(BlockFrame frame, ReadOnlyMemory<BlockHash> keys, ReadOnlyMemory<byte> blocks, KvRedisTierOptions options) : IBlockRun
{
    private readonly int _length = blocks.Length / keys.Length;

    private readonly Expiration _expiration = options.TimeToLive is { } time ? new Expiration(time) : Expiration.Default;

    public int Done { get; private set; }

    public IReadOnlyList<Exception> Damage => [];

    public async Task RunAsync(IDatabase database, CallLimit limit)
    {
        string[] names = [.. Enumerable.Range(0, keys.Length).Select(i => frame.KeyOf(keys.Span[i]))];
        Task<long>[] lengths = [.. names.Select(name => database.StringLengthAsync(name))];
        Queue<Task<bool>> sent = new();
        int most = Math.Max(1, options.MostBytesAtOnce / (_length + frame.Overhead));
        try
        {
            for (int i = 0; i < names.Length; i++)
            {
                if (await IsThereAsync(lengths[i], limit).ConfigureAwait(false))
                {
                    continue;
                }

                if (sent.Count == most)
                {
                    await TakeAsync(sent, limit).ConfigureAwait(false);
                }

                sent.Enqueue(SendAsync(database, names[i], blocks.Slice(i * _length, _length).Span));
            }

            while (sent.Count > 0)
            {
                await TakeAsync(sent, limit).ConfigureAwait(false);
            }
        }
        finally
        {
            Array.ForEach(lengths, Forget);
            foreach (Task<bool> one in sent)
            {
                Forget(one);
            }
        }
    }

    private static void Forget(Task task) => task.ContinueWith(
        static one => _ = one.Exception,
        CancellationToken.None, TaskContinuationOptions.OnlyOnFaulted | TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);

    private async Task<bool> IsThereAsync(Task<long> length, CallLimit limit)
    {
        try
        {
            return await limit.Of(length).ConfigureAwait(false) == _length + frame.Overhead;
        }
        catch (RedisServerException)
        {
            // Something that is no text, and that a write replaces. If it is anything else, the write says so too.
            return false;
        }
    }

    private async Task TakeAsync(Queue<Task<bool>> sent, CallLimit limit)
    {
        Done += await limit.Of(sent.Peek()).ConfigureAwait(false) ? 1 : 0;
        _ = sent.Dequeue();
    }

    private Task<bool> SendAsync(IDatabase database, string name, ReadOnlySpan<byte> block)
    {
        int bytes = block.Length + frame.Overhead;
        byte[] value = ArrayPool<byte>.Shared.Rent(bytes);
        frame.Close(name, block, value.AsSpan(0, bytes));
        return SendAsync(database, name, value, bytes);
    }

    // Without an answer the value may still lie in the connection's queue: its memory is then left to the collector.
    private async Task<bool> SendAsync(IDatabase database, string name, byte[] value, int bytes)
    {
        bool isWritten = await database.StringSetAsync(name, value.AsMemory(0, bytes), _expiration).ConfigureAwait(false);
        ArrayPool<byte>.Shared.Return(value);
        return isWritten;
    }
}
