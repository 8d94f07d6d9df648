using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Runtime;

namespace KvCacheGpu.Kernels;

/// <summary>Launches the kernels that write pages from pages and read pages back. Callers hold the tier's lock.</summary>
internal sealed class PageTranscoder : IDisposable
{
    private const int MaxMoves = 1024;
    private const int OutputFloats = 1 << 16;

    private readonly DeviceLink _link;
    private readonly KernelShape _shape;
    private readonly int _groupSize;
    private readonly PartMoves[] _moves;
    private readonly bool[] _isScored = new bool[KernelShape.MaxClasses * KernelShape.MaxClasses];
    private readonly bool[] _occurs = new bool[KernelShape.MaxClasses * KernelShape.MaxClasses];
    private readonly MaterializeLauncher[][] _materialize;
    private readonly PartDims[][] _parts;
    private readonly MemoryBuffer1D<int, Stride1D.Dense> _lists;
    private readonly PageLockedArray1D<int> _pinnedLists;
    private readonly MemoryBuffer1D<float, Stride1D.Dense> _output;
    private readonly PageLockedArray1D<float> _pinnedOutput;
    private readonly DeviceSigns[] _signs;

    public PageTranscoder(DeviceLink link, KernelShape shape, DeviceSigns keySigns, DeviceSigns valueSigns, int groupSize, IMoveKernels? own)
    {
        (_link, _shape, _groupSize, _signs) = (link, shape, groupSize, [keySigns, valueSigns]);
        KvGeometry g = shape.Geometry;
        _parts = [.. new[] { false, true }.Select(isValue => shape.Classes.Select(c => new PartDims(g, c, isValue)).ToArray())];
        _moves = [.. new[] { keySigns, valueSigns }.Select((signs, part) => new PartMoves(link, shape, _parts[part], part == 1, signs, groupSize, own))];
        _materialize =
        [
            [.. shape.Classes.Select(c => Load(link, c.KeyFormat))],
            [.. shape.Classes.Select(c => Load(link, c.ValueFormat))],
        ];
        _lists = link.Allocate<int>(AllocationKind.Scratch, MaxMoves * TranscodeKernels.MoveWords);
        _pinnedLists = link.Pin<int>(_lists.Length);
        link.Staging.Hold(_lists.Length);
        _output = link.Allocate<float>(AllocationKind.Scratch, Math.Max(OutputFloats, g.PageTokens * Math.Max(g.KeyWidth, g.ValueWidth)));
        _pinnedOutput = link.Pin<float>(_output.Length);
    }

    /// <summary>Enqueues page moves: per 1024 of them a few launches for each class pair that occurs. Waits where <paramref name="kept"/> is asked for.</summary>
    public void Transcode(ArrayView<int> arena, ReadOnlySpan<PageMove> moves, Span<bool> kept)
    {
        ThrowIfRefused(moves);
        while (moves.Length > 0)
        {
            ReadOnlySpan<PageMove> chunk = moves[..Math.Min(MaxMoves, moves.Length)];
            moves = moves[chunk.Length..];
            EnqueueChunk(arena, chunk);
            if (!kept.IsEmpty)
            {
                _link.Download(View(_lists), _pinnedLists, 0, (long)chunk.Length * TranscodeKernels.MoveWords);
                _link.Synchronize();
                for (int i = 0; i < chunk.Length; i++)
                {
                    kept[i] = _pinnedLists.Span[(i * TranscodeKernels.MoveWords) + TranscodeKernels.Kept] != 0;
                }

                kept = kept[chunk.Length..];
            }
        }
    }

    /// <summary>Enqueues page moves, and the copy of what becomes of them; does not wait.</summary>
    /// <param name="arena">The arena.</param>
    /// <param name="moves">The moves.</param>
    /// <param name="outcomes">Receives the lists of the moves, <see cref="TranscodeKernels.Kept"/> in each of <see cref="TranscodeKernels.MoveWords"/> words.</param>
    /// <param name="at">Where to.</param>
    public void Enqueue(ArrayView<int> arena, ReadOnlySpan<PageMove> moves, PageLockedArray1D<int> outcomes, int at)
    {
        ThrowIfRefused(moves);
        while (moves.Length > 0)
        {
            ReadOnlySpan<PageMove> chunk = moves[..Math.Min(MaxMoves, moves.Length)];
            moves = moves[chunk.Length..];
            EnqueueChunk(arena, chunk);
            int words = chunk.Length * TranscodeKernels.MoveWords;
            _link.Download(View(_lists), outcomes, at, words);
            at += words;
        }
    }

    private void EnqueueChunk(ArrayView<int> arena, ReadOnlySpan<PageMove> moves)
    {
        int words = moves.Length * TranscodeKernels.MoveWords;
        Span<int> lists = _link.Staging.Reserve(words);
        Array.Clear(_occurs);
        Array.Clear(_isScored);
        for (int i = 0; i < moves.Length; i++)
        {
            PageMove move = moves[i];
            int pair = TranscodeKernels.Pair(move.SourceClass, move.TargetClass);
            _occurs[pair] = true;
            int at = i * TranscodeKernels.MoveWords;
            (lists[at], lists[at + 1], lists[at + 2], lists[at + 3]) = (move.SourceSlot, move.TargetSlot, move.Tokens, pair);
            lists[at + TranscodeKernels.Kept] = 0;
            (long unit, long word) = Math.DivRem(move.ScoreWord, PageLayout.UnitWords);
            (lists[at + TranscodeKernels.ScoreUnit], lists[at + TranscodeKernels.ScoreUnit + 1]) = ((int)unit, (int)word);
            lists[at + TranscodeKernels.Signs] = _signs[0].ScaledVectorOf(move.KeyRow);
            _isScored[pair] |= move.ScoreWord != 0;
        }

        _link.Staging.Upload(View(_lists), words);
        for (int pair = Array.IndexOf(_occurs, true); pair >= 0; pair = Array.IndexOf(_occurs, true, pair + 1))
        {
            if (_isScored[pair])
            {
                _moves[0].EnqueueSquares(arena, View(_lists), pair, moves.Length);
                _moves[1].EnqueueSquares(arena, View(_lists), pair, moves.Length);
            }

            _moves[0].Enqueue(arena, View(_lists), pair, moves.Length);
            _moves[1].Enqueue(arena, View(_lists), pair, moves.Length);
        }
    }

    /// <summary>
    /// Decodes one part of pages: into host memory as many at a time as the output buffer holds, and waits for each; onto the device where each vector belongs, without waiting.
    /// </summary>
    /// <param name="arena">Arena.</param>
    /// <param name="reads">The pages.</param>
    /// <param name="target">Receives the vectors; one without room for any is left out.</param>
    /// <param name="found">The target's elements, if it lies on the device.</param>
    /// <param name="isValue">True for the values, false for the keys.</param>
    public void Materialize(ArrayView<int> arena, ReadOnlySpan<PageRead> reads, KvOutput target, ArrayView<ushort> found, bool isValue)
    {
        int part = isValue ? 1 : 0;
        PartDims dims = _parts[part][KernelShape.Open];
        int atOnce = target.IsOnDevice ? MaxMoves : Math.Min((int)_output.Length / (dims.PageTokens * dims.Width), MaxMoves);
        while (target.Length > 0 && reads.Length > 0)
        {
            ReadOnlySpan<PageRead> chunk = reads[..Math.Min(atOnce, reads.Length)];
            reads = reads[chunk.Length..];
            Decode(arena, chunk, part, target.Type, target.IsOnDevice ? found : default);
            if (!target.IsOnDevice)
            {
                long bytes = (long)chunk.Length * dims.PageTokens * dims.Width * target.ElementBytes;
                _link.Download(View(_output), _pinnedOutput, 0, (bytes + sizeof(float) - 1) / sizeof(float));
                _link.Synchronize();
                Spread(chunk, dims, target);
            }
        }
    }

    /// <summary>Pages whose keys <see cref="DecodeKeys"/> takes at most.</summary>
    public int MostKeys => Math.Min((int)_output.Length / (_shape.Geometry.PageTokens * _shape.Geometry.KeyWidth), MaxMoves);

    /// <summary>Enqueues the decoding of pages' keys; does not wait.</summary>
    /// <returns>Where they will lie, until the next call: <c>f32[pages][P][key width]</c>.</returns>
    public ArrayView<float> DecodeKeys(ArrayView<int> arena, ReadOnlySpan<PageRead> reads)
    {
        Decode(arena, reads, 0, TensorType.F32, default);
        return View(_output);
    }

    /// <summary>Copies words between the arena and the host, as many at a time as the list buffer holds; waits for each.</summary>
    public void Copy(ArrayView<int> arena, long word, Span<int> target)
    {
        for (int done = 0; done < target.Length; done += (int)_lists.Length)
        {
            int count = Math.Min((int)_lists.Length, target.Length - done);
            _link.Download(arena.SubView(word + done, count), _pinnedLists, 0, count);
            _link.Synchronize();
            _pinnedLists.Span[..count].CopyTo(target[done..]);
        }
    }

    /// <summary>Copies words from the host into the arena.</summary>
    public void Load(ArrayView<int> arena, long word, ReadOnlySpan<int> source)
    {
        for (int done = 0; done < source.Length; done += (int)_lists.Length)
        {
            int count = Math.Min((int)_lists.Length, source.Length - done);
            source.Slice(done, count).CopyTo(_link.Staging.Reserve(count));
            _link.Staging.Upload(arena.SubView(word + done, count), count);
        }
    }

    public void Dispose()
    {
        _pinnedLists.Dispose();
        _pinnedOutput.Dispose();
        _link.Release(AllocationKind.Scratch, _lists);
        _link.Release(AllocationKind.Scratch, _output);
    }

    private static ArrayView<T> View<T>(MemoryBuffer1D<T, Stride1D.Dense> buffer)
        where T : unmanaged => buffer.View.AsContiguous();

    private static MaterializeLauncher Load(DeviceLink link, PageFormat format) =>
        link.Accelerator.LoadKernel<MaterializeLauncher>(PortableKernels.Materialize(format));

    private void ThrowIfRefused(ReadOnlySpan<PageMove> moves)
    {
        foreach (PageMove move in moves)
        {
            ThrowIfRefused(move);
        }
    }

    private void ThrowIfRefused(PageMove move)
    {
        bool isClass = (uint)move.SourceClass < (uint)_shape.Classes.Count && (uint)move.TargetClass < (uint)_shape.Classes.Count;
        if (!isClass || !PageMoves.IsAllowed(_shape, move.SourceClass, move.TargetClass))
        {
            string what = isClass ? $", {_shape.Classes[move.SourceClass]} to {_shape.Classes[move.TargetClass]}" : string.Empty;
            throw new ArgumentException($"expected page classes that are sealed, reopened or demoted into each other, got {move}{what}", nameof(move));
        }
    }

    // Where nothing was found, into the output buffer, page by page.
    private void Decode(ArrayView<int> arena, ReadOnlySpan<PageRead> reads, int part, TensorType type, ArrayView<ushort> found)
    {
        PartDims dims = _parts[part][KernelShape.Open];
        int words = reads.Length * TranscodeKernels.ReadWords;
        Span<int> lists = _link.Staging.Reserve(words);
        Array.Clear(_occurs);
        for (int i = 0; i < reads.Length; i++)
        {
            PageRead read = reads[i];
            int at = i * TranscodeKernels.ReadWords;
            (lists[at], lists[at + 1], lists[at + 2]) = (read.Slot, read.Tokens, read.PageClass);
            lists[at + 5] = _signs[0].ScaledVectorOf(read.KeyRow);
            (lists[at + 3], lists[at + 4]) = found.IsValid ? (read.TargetVector, read.TargetStride) : (i * dims.PageTokens, 1);
            _occurs[read.PageClass] = true;
        }

        _link.Staging.Upload(View(_lists), words);
        var config = new KernelConfig(reads.Length * dims.PageTokens, _groupSize, SharedMemoryConfig.RequestDynamic<float>(dims.Width + LevelTable.Size));
        ArrayView<ushort> output = found.IsValid ? found : View(_output).Cast<ushort>();
        for (int c = 0; c < _shape.Classes.Count; c++)
        {
            if (_occurs[c])
            {
                _materialize[part][c](_link.Stream, config, arena, View(_lists), new ReadDims(c, (int)type), _parts[part][c], _signs[part].View, _signs[part].Norm, output);
            }
        }
    }

    // out[reads][P][width] -> each read's vectors at its stride.
    private void Spread(ReadOnlySpan<PageRead> reads, PartDims dims, KvOutput target)
    {
        ReadOnlySpan<byte> output = MemoryMarshal.AsBytes(_pinnedOutput.Span);
        int vector = dims.Width * target.ElementBytes;
        for (int i = 0; i < reads.Length; i++)
        {
            for (int t = 0; t < reads[i].Tokens; t++)
            {
                output.Slice(((i * dims.PageTokens) + t) * vector, vector)
                    .CopyTo(target.Host[((reads[i].TargetVector + (t * reads[i].TargetStride)) * vector)..]);
            }
        }
    }
}
