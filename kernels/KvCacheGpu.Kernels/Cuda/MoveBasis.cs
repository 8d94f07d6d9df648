using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>As <see cref="TokenCodec.ChangeBasis"/>: from the source's basis to the target's.</summary>
internal readonly struct MoveBasis<TSource, TTarget>
    where TSource : struct, IMoveSource
    where TTarget : struct, IMoveTarget
{
    private readonly ArrayView<Four> _all;
    private readonly Sixteen _signs;
    private readonly int _first;
    private readonly bool _isApart;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public MoveBasis(ArrayView<Four> signs, int vector, int lane, int width)
    {
        _all = signs;
        _first = ((vector * width) >> 2) + (4 * lane);
        _isApart = vector != 0;
        _signs = !default(TSource).IsRotated && default(TTarget).IsRotated ? Load(signs, _first) : default;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Sixteen Change(Sixteen x, int lane, MoveDims dims)
    {
        int block = dims.From.Width & -dims.From.Width;
        if (!default(TSource).IsRotated && default(TTarget).IsRotated)
        {
            return Sixteen.Transform(Sixteen.Product(x, _signs), block, lane, dims.Norm);
        }

        // I8 to a T format under key scales: back to the plain basis first.
        if (default(TSource).IsRotated && default(TTarget).Scales == Scaling.Gain && _isApart)
        {
            int own = lane < dims.From.Width >> 4 ? lane : 0;
            Sixteen plain = Sixteen.Product(Sixteen.Transform(x, block, lane, dims.Norm), Load(_all, 4 * own, false));
            x = Sixteen.Transform(Sixteen.Product(plain, Load(_all, _first, true)), block, lane, dims.Norm);
        }

        return x;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Sixteen Load(ArrayView<Four> signs, int at) => Load(signs, at, default(TTarget).Scales == Scaling.Gain);

    // Keys are multiplied by the scales that the signs are divided by.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Sixteen Load(ArrayView<Four> signs, int at, bool isInverse)
    {
        Sixteen found = Sixteen.Of(signs[at], signs[at + 1], signs[at + 2], signs[at + 3]);
        return isInverse ? Sixteen.Of(Inverse(found.A), Inverse(found.B), Inverse(found.C), Inverse(found.D)) : found;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Four Inverse(Four a) => Four.Of(
        PortableMath.InverseOfPower(a.X), PortableMath.InverseOfPower(a.Y), PortableMath.InverseOfPower(a.Z), PortableMath.InverseOfPower(a.W));
}
