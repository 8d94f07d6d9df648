using System.Threading.Channels;

namespace KvCacheGpu;

/// <summary>
/// Copies blocks of the prefix index to the tiers below the device, on a worker of its own, behind the steps that seal them. It holds nothing: a block that is given up before its turn, or
/// while it is copied, is left out, so that no step is refused for the sake of a copy.
/// </summary>
internal sealed class BlockBackup : IDisposable
{
    // Blocks that wait; beyond, the newest is left out. A waiting block costs its hash alone.
    private const int MostWaiting = 4096;

    private readonly CacheState _cache;
    private readonly PrefixPages _prefixes;
    private readonly BlockContent _content;
    private readonly Channel<Waiting> _waiting;
    private readonly CancellationTokenSource _ends = new();
    private readonly Task _worker;
    private readonly byte[] _blocks;
    private readonly BlockHash[] _keys;
    private readonly int[] _slots;
    private readonly byte[] _encodings;
    private long _asked;
    private long _done;
    private long _left;

    public BlockBackup(CacheState cache, PrefixPages prefixes, BlockContent content)
    {
        (_cache, _prefixes, _content) = (cache, prefixes, content);
        _waiting = Channel.CreateBounded<Waiting>(new BoundedChannelOptions(MostWaiting) { SingleReader = true });
        _keys = new BlockHash[cache.Options.PrefetchSize];
        _blocks = GC.AllocateUninitializedArray<byte>(checked(_keys.Length * content.Bytes), pinned: true);
        (_slots, _encodings) = (new int[content.Rows], new byte[content.Rows]);
        using (cache.Pool.Gate.Enter())
        {
            if (cache.Options.Backup == KvBackup.WhenSealed)
            {
                prefixes.Index.Published = Note;
            }
            else
            {
                prefixes.Index.Released = Note;
            }
        }

        _worker = Task.Run(Run);
    }

    /// <summary>Blocks that were left out: too many waited, or they were given up before they were copied.</summary>
    public long LeftOut => Interlocked.Read(ref _left);

    /// <summary>Waits until all blocks that wait now were written, or left out.</summary>
    public async Task FlushAsync(CancellationToken cancel)
    {
        long asked = Interlocked.Read(ref _asked);
        while (Interlocked.Read(ref _done) < asked && !_worker.IsCompleted)
        {
            await Task.Delay(1, cancel).ConfigureAwait(false);
        }
    }

    /// <summary>Ends the worker after the write that is under way; what waits is left out.</summary>
    public void Dispose()
    {
        using (_cache.Pool.Gate.Enter())
        {
            (_prefixes.Index.Published, _prefixes.Index.Released) = (null, null);
        }

        if (_waiting.Writer.TryComplete())
        {
            _ends.Cancel();
        }

        _worker.Wait();
    }

    // Called inside of the pool's gate.
    private void Note(int block)
    {
        if (_prefixes.Below!.Has(block) || !_prefixes.Index.IsWorthOffloading(block))
        {
            return;
        }

        if (_waiting.Writer.TryWrite(new Waiting(block, _prefixes.Index[block].Hash)))
        {
            Interlocked.Increment(ref _asked);
        }
        else
        {
            Interlocked.Increment(ref _left);
        }
    }

    private async Task Run()
    {
        try
        {
            while (await _waiting.Reader.WaitToReadAsync(_ends.Token).ConfigureAwait(false))
            {
                int taken = 0;
                int count = 0;
                while (count < _keys.Length && _waiting.Reader.TryRead(out Waiting waiting))
                {
                    taken++;
                    if (TryCopy(waiting, count))
                    {
                        count++;
                    }
                    else
                    {
                        Interlocked.Increment(ref _left);
                    }
                }

                for (int tier = 0; tier < _cache.Options.Tiers.Count && count > 0; tier++)
                {
                    await _cache.Options.Tiers[tier].WriteAsync(_keys.AsMemory(0, count), _blocks.AsMemory(0, count * _content.Bytes), _ends.Token).ConfigureAwait(false);
                }

                Interlocked.Add(ref _done, taken);
            }
        }
        catch (OperationCanceledException)
        {
            // The cache goes: what was not written is a miss later.
        }
#pragma warning disable CA1031 // Whatever the device says, nobody waits for a copy: what follows is left out.
        catch (Exception)
#pragma warning restore CA1031
        {
            // A lost device, or a host that disposed its accelerator first.
            _waiting.Writer.TryComplete();
        }
    }

    private bool TryCopy(in Waiting waiting, int place)
    {
        using (_cache.Pool.Gate.Enter())
        {
            if (_prefixes.Index[waiting.Block].Hash != waiting.Hash)
            {
                return false;
            }

            _prefixes.SlotsOf(waiting.Block).CopyTo(_slots);
            for (int row = 0; row < _slots.Length; row++)
            {
                _encodings[row] = (byte)_cache.Pool.EncodingsOf(_slots[row]).Packed;
            }

            _prefixes.Watched = waiting.Block;
        }

        _keys[place] = _content.KeyOf(waiting.Hash);
        _content.Read(_slots, _encodings, _keys[place], _blocks.AsSpan(place * _content.Bytes, _content.Bytes));
        using (_cache.Pool.Gate.Enter())
        {
            bool isWhole = _prefixes.Watched == waiting.Block;
            if (isWhole)
            {
                _prefixes.Below!.Add(waiting.Block);
            }

            _prefixes.Watched = 0;
            return isWhole;
        }
    }

    private readonly record struct Waiting(int Block, BlockHash Hash);
}
