using System.Runtime.InteropServices;

namespace KvCacheGpu.Tests;

/// <summary>
/// Keeps freed native bookkeeping for a while, filled with poison: who reads it late meets wild numbers, and who writes to it late is seen when it is
/// freed at last. Of the whole process while it lives.
/// </summary>
internal sealed unsafe class FreedMemory : IDisposable
{
    private const byte Poison = 0xDB;
    private const long MostBytes = 64 << 20;

    private readonly Queue<(nint At, long Bytes)> _kept = new();
    private long _bytes;
    private long _spoilt;
    private bool _isOver;

    public FreedMemory() => NativeInts.Keep = Take;

    /// <summary>Blocks that were written to after they were freed, of those that are kept also.</summary>
    public long Spoilt
    {
        get
        {
            lock (_kept)
            {
                return _spoilt + _kept.Count(block => !IsIntact(block));
            }
        }
    }

    /// <summary>Blocks that were freed so far.</summary>
    public long Taken { get; private set; }

    public void Dispose()
    {
        NativeInts.Keep = null;
        lock (_kept)
        {
            _isOver = true;
            FreeDownTo(0);
        }
    }

    private void Take(nint at, long bytes)
    {
        new Span<byte>((void*)at, (int)bytes).Fill(Poison);
        lock (_kept)
        {
            _kept.Enqueue((at, bytes));
            _bytes += bytes;
            Taken++;
            FreeDownTo(_isOver ? 0 : MostBytes);
        }
    }

    private void FreeDownTo(long bytes)
    {
        while (_bytes > bytes || (bytes == 0 && _kept.Count > 0))
        {
            (nint At, long Bytes) block = _kept.Dequeue();
            _spoilt += IsIntact(block) ? 0 : 1;
            _bytes -= block.Bytes;
            NativeMemory.Free((void*)block.At);
        }
    }

    private static bool IsIntact((nint At, long Bytes) block) => new Span<byte>((void*)block.At, (int)block.Bytes).IndexOfAnyExcept(Poison) < 0;
}
