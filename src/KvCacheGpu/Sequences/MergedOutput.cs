using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// The attention over all pages, out of launches that each saw some: outputs weighted by their log-sum-exps (Flash-Decoding, Dao et al. 2023). What several launches saw is taken off again;
/// weights are never negative, so that this costs no more than a rounding for each launch.
/// </summary>
/// <param name="vectors">Query vectors.</param>
/// <param name="width">Elements of an output.</param>
internal sealed class MergedOutput(int vectors, int width)
{
    private readonly double[] _sums = new double[vectors * width];
    private readonly double[] _weights = new double[vectors];
    private readonly double[] _largest = [.. Enumerable.Repeat(double.NegativeInfinity, vectors)];

    /// <summary>Where the next launch writes its output.</summary>
    public float[] Output { get; } = new float[vectors * width];

    /// <summary>Where it writes its log-sum-exps.</summary>
    public float[] LogSumExp { get; } = new float[vectors];

    /// <summary>Adds the launch that has written there.</summary>
    /// <param name="times">How often: below 0 takes off.</param>
    public void Add(int times)
    {
        for (int vector = 0; vector < vectors; vector++)
        {
            double logSumExp = LogSumExp[vector];
            if (double.IsNegativeInfinity(logSumExp))
            {
                continue;
            }

            Span<double> sums = _sums.AsSpan(vector * width, width);
            if (logSumExp > _largest[vector])
            {
                double keep = Math.Exp(_largest[vector] - logSumExp);
                _largest[vector] = logSumExp;
                _weights[vector] *= keep;
                foreach (ref double sum in sums)
                {
                    sum *= keep;
                }
            }

            double weight = times * Math.Exp(logSumExp - _largest[vector]);
            _weights[vector] += weight;
            for (int i = 0; i < width; i++)
            {
                sums[i] += weight * Output[(vector * width) + i];
            }
        }
    }

    /// <summary>Writes the result.</summary>
    /// <param name="target">An output in host memory of as many vectors.</param>
    public void WriteTo(KvOutput target)
    {
        for (int vector = 0; vector < vectors; vector++)
        {
            for (int i = 0; i < width; i++)
            {
                Output[(vector * width) + i] = (float)(_sums[(vector * width) + i] / _weights[vector]);
            }

            if (target.HasLogSumExp)
            {
                target.HostLogSumExp[vector] = (float)Math.Clamp(_largest[vector] + Math.Log(_weights[vector]), float.MinValue, float.MaxValue);
            }
        }

        Narrow(target);
    }

    private void Narrow(KvOutput target)
    {
        switch (target.Type)
        {
            case TensorType.F32:
                MemoryMarshal.AsBytes(Output.AsSpan()).CopyTo(target.Host);
                break;
            case TensorType.F16:
                Span<Half> halves = MemoryMarshal.Cast<byte, Half>(target.Host);
                for (int i = 0; i < Output.Length; i++)
                {
                    halves[i] = (Half)Output[i];
                }

                break;
            default:
                Span<ushort> bits = MemoryMarshal.Cast<byte, ushort>(target.Host);
                for (int i = 0; i < Output.Length; i++)
                {
                    bits[i] = (ushort)Bits16.BFloat16FromSingleBits(BitConverter.SingleToUInt32Bits(Output[i]));
                }

                break;
        }
    }
}
