using ILGPU;
using ILGPU.Runtime;

namespace KvCacheGpu.Kernels;

/// <summary>Launches the kernels that write pages from pages and read pages back. Callers hold the tier's lock.</summary>
internal sealed class PageTranscoder : IDisposable
{
    private const int MaxMoves = 1024;
    private const int OutputFloats = 1 << 16;
    private const int ClassPairs = 4;

    private readonly DeviceLink _link;
    private readonly KernelShape _shape;
    private readonly int _groupSize;
    private readonly CopyLauncher _copy;
    private readonly TranscodeLauncher?[] _transcode = new TranscodeLauncher?[2 * ClassPairs];
    private readonly MaterializeLauncher[] _materialize = new MaterializeLauncher[4];
    private readonly PartDims[] _parts = new PartDims[4];
    private readonly MemoryBuffer1D<int, Stride1D.Dense> _lists;
    private readonly PageLockedArray1D<int> _pinnedLists;
    private readonly MemoryBuffer1D<float, Stride1D.Dense> _output;
    private readonly PageLockedArray1D<float> _pinnedOutput;
    private readonly Signs[] _signs;
    private long _epoch;

    public PageTranscoder(DeviceLink link, KernelShape shape, Signs keySigns, Signs valueSigns, int groupSize)
    {
        (_link, _shape, _groupSize, _signs) = (link, shape, groupSize, [keySigns, valueSigns]);
        KvGeometry g = shape.Geometry;
        _copy = link.Accelerator.LoadKernel<CopyLauncher>(PortableKernels.Copy);
        for (int part = 0; part < 2; part++)
        {
            for (int c = 0; c < 2; c++)
            {
                _parts[(part * 2) + c] = new PartDims(g, shape.Classes[c], part == 1);
                _materialize[(part * 2) + c] = link.Accelerator.LoadKernel<MaterializeLauncher>(PortableKernels.Materialize(Format(part, c)));
                for (int target = 0; target < 2; target++)
                {
                    _transcode[(((part * 2) + c) * 2) + target] = Format(part, c) == Format(part, target)
                        ? null
                        : link.Accelerator.LoadKernel<TranscodeLauncher>(PortableKernels.Transcode(Format(part, c), Format(part, target)));
                }
            }
        }

        _lists = link.Allocate<int>(AllocationKind.Scratch, MaxMoves * TranscodeKernels.MoveWords);
        _pinnedLists = link.Pin<int>(_lists.Length);
        _output = link.Allocate<float>(AllocationKind.Scratch, Math.Max(OutputFloats, g.PageTokens * Math.Max(g.KeyWidth, g.ValueWidth)));
        _pinnedOutput = link.Pin<float>(_output.Length);
    }

    /// <summary>Bytes on the device.</summary>
    public long DeviceBytes => _lists.LengthInBytes + _output.LengthInBytes;

    /// <summary>Enqueues page moves: per 1024 of them one launch for each part and class pair that occurs.</summary>
    public void Transcode(ArrayView<int> arena, ReadOnlySpan<PageMove> moves)
    {
        while (moves.Length > 0)
        {
            ReadOnlySpan<PageMove> chunk = moves[..Math.Min(MaxMoves, moves.Length)];
            moves = moves[chunk.Length..];
            _link.WaitFor(_epoch);
            Span<int> lists = _pinnedLists.Span;
            int pairs = 0;
            for (int i = 0; i < chunk.Length; i++)
            {
                PageMove move = chunk[i];
                int pair = (move.SourceClass * 2) + move.TargetClass;
                pairs |= 1 << pair;
                int at = i * TranscodeKernels.MoveWords;
                (lists[at], lists[at + 1], lists[at + 2], lists[at + 3]) = (move.SourceSlot, move.TargetSlot, move.Tokens, pair);
            }

            _epoch = _link.Upload(_pinnedLists, 0, View(_lists), (long)chunk.Length * TranscodeKernels.MoveWords);
            for (int launch = 0; launch < 2 * ClassPairs; launch++)
            {
                if (((pairs >> (launch % ClassPairs)) & 1) != 0)
                {
                    Launch(arena, launch / ClassPairs, launch % ClassPairs, chunk.Length);
                }
            }
        }
    }

    /// <summary>Decodes pages into host memory, as many at a time as the output buffer holds; waits for each.</summary>
    public void Materialize(ArrayView<int> arena, ReadOnlySpan<PageRead> reads, Span<float> keys, Span<float> values)
    {
        MaterializePart(arena, reads, keys, 0);
        MaterializePart(arena, reads, values, 1);
    }

    /// <summary>Copies words between the arena and the host, as many at a time as the list buffer holds; waits for each.</summary>
    public void Copy(ArrayView<int> arena, long word, Span<int> target)
    {
        for (int done = 0; done < target.Length; done += (int)_lists.Length)
        {
            int count = Math.Min((int)_lists.Length, target.Length - done);
            _link.WaitFor(_epoch);
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
            _link.WaitFor(_epoch);
            source.Slice(done, count).CopyTo(_pinnedLists.Span);
            _epoch = _link.Upload(_pinnedLists, 0, arena.SubView(word + done, count), count);
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

    private PageFormat Format(int part, int pageClass) =>
        part == 0 ? _shape.Classes[pageClass].KeyFormat : _shape.Classes[pageClass].ValueFormat;

    private void Launch(ArrayView<int> arena, int part, int pair, int moves)
    {
        PartDims from = _parts[(part * 2) + (pair / 2)];
        PartDims to = _parts[(part * 2) + (pair % 2)];
        if (_transcode[(part * ClassPairs) + pair] is { } transcode)
        {
            int groups = moves * ((from.PageTokens + 1) / 2);
            var config = new KernelConfig(groups, _groupSize, SharedMemoryConfig.RequestDynamic<float>(from.Width + _groupSize));
            transcode(_link.Stream, config, arena, View(_lists), pair, from, to, _signs[part].View, _signs[part].Norm);
        }
        else
        {
            int scaleWords = !Format(part, pair / 2).IsRotated() ? 0 : (from.PageTokens + 1) / 2;
            _copy(_link.Stream, new KernelConfig(moves, _groupSize), arena, View(_lists), pair, from, to, scaleWords);
        }
    }

    private void MaterializePart(ArrayView<int> arena, ReadOnlySpan<PageRead> reads, Span<float> target, int part)
    {
        PartDims dims = _parts[part * 2];
        int atOnce = Math.Min((int)_output.Length / (dims.PageTokens * dims.Width), MaxMoves);
        while (target.Length > 0 && reads.Length > 0)
        {
            ReadOnlySpan<PageRead> chunk = reads[..Math.Min(atOnce, reads.Length)];
            reads = reads[chunk.Length..];
            _link.WaitFor(_epoch);
            Span<int> lists = _pinnedLists.Span;
            int classes = 0;
            for (int i = 0; i < chunk.Length; i++)
            {
                int at = i * TranscodeKernels.ReadWords;
                (lists[at], lists[at + 1], lists[at + 2]) = (chunk[i].Slot, chunk[i].Tokens, chunk[i].PageClass);
                classes |= 1 << chunk[i].PageClass;
            }

            _epoch = _link.Upload(_pinnedLists, 0, View(_lists), (long)chunk.Length * TranscodeKernels.ReadWords);
            int groups = chunk.Length * dims.PageTokens;
            var config = new KernelConfig(groups, _groupSize, SharedMemoryConfig.RequestDynamic<float>(dims.Width));
            for (int c = 0; c < 2; c++)
            {
                if (((classes >> c) & 1) != 0)
                {
                    _materialize[(part * 2) + c](
                        _link.Stream, config, arena, View(_lists), 1 << c, _parts[(part * 2) + c], _signs[part].View, _signs[part].Norm, View(_output));
                }
            }

            _link.Download(View(_output), _pinnedOutput, 0, (long)groups * dims.Width);
            _link.Synchronize();
            Spread(chunk, dims, target);
        }
    }

    // out[reads][P][width] -> each read's vectors at its stride.
    private void Spread(ReadOnlySpan<PageRead> reads, PartDims dims, Span<float> target)
    {
        ReadOnlySpan<float> output = _pinnedOutput.Span;
        for (int i = 0; i < reads.Length; i++)
        {
            for (int t = 0; t < reads[i].Tokens; t++)
            {
                output.Slice(((i * dims.PageTokens) + t) * dims.Width, dims.Width)
                    .CopyTo(target[((reads[i].TargetVector + (t * reads[i].TargetStride)) * dims.Width)..]);
            }
        }
    }
}
