using System.Runtime.Intrinsics;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.Llama;

/// <summary>
/// Products of one panel (32 rows of a matrix, interleaved: <c>[column][32]</c>) with tokens. Every output is one chain of fused
/// multiply-adds over the columns in order, for any vectors and any number of tokens. So a result depends neither on the
/// processor nor on how a prompt was cut into batches, bit for bit.
/// </summary>
internal abstract unsafe class PanelKernels
{
    /// <summary>Rows of a panel.</summary>
    public const int Rows = 32;

    /// <summary>The kernels for a level; Auto takes the widest vectors that this processor accelerates.</summary>
    public static PanelKernels For(SimdLevel level) => level switch
    {
        SimdLevel.Scalar => new ScalarPanels(),
        SimdLevel.Vector256 => new Vector256Panels(),
        SimdLevel.Vector512 => new Vector512Panels(),
        _ when Vector512.IsHardwareAccelerated => new Vector512Panels(),
        _ when Vector256.IsHardwareAccelerated => new Vector256Panels(),
        _ => new ScalarPanels(),
    };

    /// <summary>One token: <c>y[32] = panel x</c>, weights widened in registers as they stream in from memory.</summary>
    public void MultiplyOne(WeightType type, byte* panel, int columns, float* x, float* y)
    {
        switch (type)
        {
            case WeightType.F16:
                One<F16Bits>(panel, columns, x, y);
                break;
            case WeightType.BF16:
                One<BF16Bits>(panel, columns, x, y);
                break;
            default:
                One<F32Bits>(panel, columns, x, y);
                break;
        }
    }

    /// <summary>Writes a panel's columns as binary32, which many tokens then use.</summary>
    public void Widen(WeightType type, byte* panel, int columns, float* target)
    {
        if (type == WeightType.F16)
        {
            Widen<F16Bits>(panel, columns, target);
        }
        else
        {
            Widen<BF16Bits>(panel, columns, target);
        }
    }

    /// <summary>Many tokens: <c>y[t][32] = panel x[t]</c>, added to the previous values if <paramref name="accumulate"/> is true.</summary>
    /// <param name="panel">The panel in binary32.</param>
    /// <param name="columns">Number of its columns.</param>
    /// <param name="x">First token's input.</param>
    /// <param name="xStride">Elements from one token's input to the next.</param>
    /// <param name="tokens">Number of tokens.</param>
    /// <param name="y">First token's output.</param>
    /// <param name="yStride">Elements from one token's output to the next.</param>
    /// <param name="accumulate">True if the chains continue from <paramref name="y"/>.</param>
    public abstract void MultiplyMany(float* panel, int columns, float* x, nint xStride, int tokens, float* y, nint yStride, bool accumulate);

    protected abstract void One<T>(byte* panel, int columns, float* x, float* y)
        where T : struct, IWeightBits;

    protected abstract void Widen<T>(byte* panel, int columns, float* target)
        where T : struct, IWeightBits;
}
