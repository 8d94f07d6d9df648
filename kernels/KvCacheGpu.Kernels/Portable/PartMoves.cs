using ILGPU;
using ILGPU.Runtime;

namespace KvCacheGpu.Kernels;

/// <summary>The launches that write one part (keys or values) of pages from pages, for every class pair that a shape needs.</summary>
internal sealed class PartMoves
{
    private readonly DeviceLink _link;
    private readonly KernelShape _shape;
    private readonly PartDims[] _parts;
    private readonly bool _isValue;
    private readonly DeviceSigns _signs;
    private readonly int _groupSize;
    private readonly CopyLauncher _copy;
    private readonly SquareLauncher[] _square;

    // By class pair: values, and keys without a digest; keys with one; the digest alone.
    private readonly TranscodeLauncher?[] _transcode = new TranscodeLauncher?[KernelShape.MaxClasses * KernelShape.MaxClasses];
    private readonly TranscodeLauncher?[] _encode = new TranscodeLauncher?[KernelShape.MaxClasses * KernelShape.MaxClasses];
    private readonly TranscodeLauncher?[] _digest = new TranscodeLauncher?[KernelShape.MaxClasses * KernelShape.MaxClasses];

    // The device's own kernels, which stand for any of those.
    private readonly IPartMove?[] _own = new IPartMove?[KernelShape.MaxClasses * KernelShape.MaxClasses];

    public PartMoves(DeviceLink link, KernelShape shape, PartDims[] parts, bool isValue, DeviceSigns signs, int groupSize, IMoveKernels? own)
    {
        (_link, _shape, _parts, _isValue, _signs, _groupSize) = (link, shape, parts, isValue, signs, groupSize);
        Accelerator accelerator = link.Accelerator;
        _square = [.. Enumerable.Range(0, shape.Classes.Count).Select(c => accelerator.LoadKernel<SquareLauncher>(PortableKernels.Square(Format(c))))];
        _copy = accelerator.LoadKernel<CopyLauncher>(PortableKernels.Copy);
        for (int source = 0; source < shape.Classes.Count; source++)
        {
            for (int target = 0; target < shape.Classes.Count; target++)
            {
                if (!PageMoves.IsAllowed(shape, source, target))
                {
                    continue;
                }

                int pair = TranscodeKernels.Pair(source, target);
                (PageFormat from, PageFormat to) = (Format(source), Format(target));
                bool hasDigest = parts[target].Mean > 0 && PageMoves.IsStep(from, to);
                bool isWritten = from != to || (hasDigest && !CopiesDigest(source, target));
                _own[pair] = isWritten ? own?.Move(new PartPair(from, to, isValue, hasDigest, parts[source], parts[target])) : null;
                if (_own[pair] is not null)
                {
                    continue;
                }

                if (from != to && hasDigest)
                {
                    _encode[pair] = accelerator.LoadKernel<TranscodeLauncher>(PortableKernels.EncodeKeys(from, to));
                }
                else if (from != to)
                {
                    _transcode[pair] = accelerator.LoadKernel<TranscodeLauncher>(PortableKernels.Transcode(from, to));
                }
                else if (hasDigest && !CopiesDigest(source, target))
                {
                    _digest[pair] = accelerator.LoadKernel<TranscodeLauncher>(PortableKernels.Digest(from));
                }
            }
        }
    }

    /// <summary>Enqueues the launches of one class pair over a list of moves, those of other pairs among them.</summary>
    public void Enqueue(ArrayView<int> arena, ArrayView<int> moves, int pair, int count)
    {
        (int source, int target) = Math.DivRem(pair, KernelShape.MaxClasses);
        (PartDims from, PartDims to) = (_parts[source], _parts[target]);
        int scratch = TokenScratch.Floats(from.Width, to.Planes, _groupSize);
        int pageScratch = KeyKernels.SharedFloats(from.Width, to.Planes, _groupSize);
        if (_own[pair] is { } own && Format(source) != Format(target))
        {
            own.Enqueue(_link.Stream, arena, new MoveList(moves, pair, count), _signs);
        }
        else if (_transcode[pair] is { } transcode)
        {
            transcode(_link.Stream, Config(count * ((from.PageTokens + 1) / 2), scratch), arena, moves, pair, from, to, _signs.View, _signs.Norm);
        }
        else if (_encode[pair] is { } encode)
        {
            encode(_link.Stream, Config(count, pageScratch), arena, moves, pair, from, to, _signs.View, _signs.Norm);
        }
        else
        {
            (int low, int high) = Exponents(source, target);
            int digestWords = to.Mean > 0 && CopiesDigest(source, target) ? 2 * to.MeanWords : 0;
            _copy(_link.Stream, new KernelConfig(count, _groupSize), arena, moves, pair, digestWords, low, high, from, to);
            _own[pair]?.Enqueue(_link.Stream, arena, new MoveList(moves, pair, count), _signs);
            _digest[pair]?.Invoke(_link.Stream, Config(count, pageScratch), arena, moves, pair, from, to, _signs.View, _signs.Norm);
        }
    }

    /// <summary>Enqueues the launch that writes the mean square norms of one class pair's sources, unless <see cref="Enqueue"/> does so too.</summary>
    public void EnqueueSquares(ArrayView<int> arena, ArrayView<int> moves, int pair, int count)
    {
        if (_own[pair] is { WritesSquares: true })
        {
            return;
        }

        int source = pair / KernelShape.MaxClasses;
        int score = _isValue ? TableMap.ScoreValueSquare : TableMap.ScoreKeySquare;
        int floats = SquareKernel.SharedFloats(_parts[source].Width, _groupSize);
        _square[source](_link.Stream, Config(count, floats), arena, moves, pair, score, _parts[source], _signs.View, _signs.Norm);
    }

    private PageFormat Format(int pageClass) => _isValue ? _shape.Classes[pageClass].ValueFormat : _shape.Classes[pageClass].KeyFormat;

    private KernelConfig Config(int groups, int floats) => new(groups, _groupSize, SharedMemoryConfig.RequestDynamic<float>(floats));

    // A page of the same layout keeps its digest, once it has one; T codes mean nothing without theirs.
    private bool CopiesDigest(int source, int target) =>
        Format(source).IsCentered() || (source != KernelShape.Open && _shape.Classes[source] == _shape.Classes[target]);

    // NaN and infinities keep an open page from being sealed: the bits that they all set, in the first and in the last element of a word.
    private (int Low, int High) Exponents(int source, int target) => (Format(source), source, target) switch
    {
        (_, not KernelShape.Open, _) or (_, _, KernelShape.Open) => (0, 0),
        (PageFormat.F16, _, _) => (0x7C00, 0x7C000000),
        (PageFormat.BF16, _, _) => (0x7F80, 0x7F800000),
        _ => (0x7F800000, 0x7F800000),
    };
}
