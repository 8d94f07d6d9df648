using StackExchange.Redis;

namespace KvCacheGpu;

/// <summary>
/// Reads a run of blocks, several commands under way at once. They are single GETs: the keys of a run lie on different nodes of a cluster, and the reply to one MGET is
/// buffered whole before any of it is seen, which measured slower (docs/tiers-redis.md).
/// </summary>
/// <param name="frame">Names of keys and values.</param>
/// <param name="keys">Keys.</param>
/// <param name="blocks">Receives the blocks. Only <see cref="RunAsync"/> writes there: nothing does once it has ended.</param>
/// <param name="mostBytes">Bytes that are under way at once.</param>
internal sealed class BlockReads(BlockFrame frame, ReadOnlyMemory<BlockHash> keys, Memory<byte> blocks, int mostBytes) : IBlockRun
{
    private readonly int _length = blocks.Length / keys.Length;
    private readonly List<Exception> _damage = [];

    public int Done { get; private set; }

    public IReadOnlyList<Exception> Damage => _damage;

    public async Task RunAsync(IDatabase database, CallLimit limit)
    {
        Queue<(string Key, Task<Lease<byte>?> Reply)> sent = new();
        int most = Math.Max(1, mostBytes / Math.Max(1, _length));
        int next = 0;
        try
        {
            while (Done < keys.Length)
            {
                while (sent.Count < most && next < keys.Length)
                {
                    string key = frame.KeyOf(keys.Span[next++]);
                    sent.Enqueue((key, database.StringGetLeaseAsync(key)));
                }

                (string name, Task<Lease<byte>?> reply) = sent.Peek();
                bool isRead = await TakeAsync(name, reply, limit).ConfigureAwait(false);
                _ = sent.Dequeue();
                if (!isRead)
                {
                    if (_damage.Count > 0)
                    {
                        // Else a write would find it there, and leave it.
                        await database.KeyDeleteAsync(name, CommandFlags.FireAndForget).ConfigureAwait(false);
                    }

                    return;
                }

                Done++;
            }
        }
        finally
        {
            foreach ((_, Task<Lease<byte>?> reply) in sent)
            {
                Forget(reply);
            }
        }
    }

    // False for a key that is not there, or whose value is no block.
    private async Task<bool> TakeAsync(string name, Task<Lease<byte>?> reply, CallLimit limit)
    {
        string damage;
        try
        {
            using Lease<byte>? value = await limit.Of(reply).ConfigureAwait(false);
            if (value is null || frame.TryOpen(name, value.Span, blocks.Span.Slice(Done * _length, _length)))
            {
                return value is not null;
            }

            damage = $"{value.Length} bytes that are none";
        }
        catch (RedisServerException e) when (e.Message.StartsWith("WRONGTYPE", StringComparison.Ordinal))
        {
            damage = "another type of value";
        }

        _damage.Add(new KvCorruptionException($"'{name}' in Redis", $"a block of {_length} bytes as it was written", damage));
        return false;
    }

    // Its memory goes back to the pool once it has come.
    private static void Forget(Task<Lease<byte>?> reply) => reply.ContinueWith(
        static one =>
        {
            if (one.IsCompletedSuccessfully)
            {
                one.Result?.Dispose();
            }
            else
            {
                _ = one.Exception;
            }
        },
        CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
}
