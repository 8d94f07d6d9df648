using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Compares what two encoders stored.</summary>
public static partial class Expect
{
    /// <summary>
    /// The same codes, scales and mean; the deviation to one unit in the last place. Zeros have no sign, and codes of a ggml block
    /// whose d is zero decode to zero whatever they are.
    /// </summary>
    public static void SameCodes(PartCodes expected, PartCodes got, string where)
    {
        Assert.Equal(expected.Codes.Length, got.Codes.Length);
        for (int t = 0; t < expected.Codes.Length; t++)
        {
            Same(expected.Scales[t], got.Scales[t], $"scales of token {t}, {where}");
            int group = expected.Format.ScaleGroup(expected.Codes[t].Length);
            for (int e = 0; e < expected.Codes[t].Length; e++)
            {
                bool isFree = expected.Format is PageFormat.Q8 or PageFormat.Q4 && expected.Scales[t][e / group] == Half.Zero;
                Assert.True(
                    isFree || expected.Codes[t][e] == got.Codes[t][e],
                    $"{where}: token {t} element {e}: expected code {expected.Codes[t][e]:X}, got {got.Codes[t][e]:X}");
            }
        }

        Same(expected.Mean, got.Mean, $"mean of {where}");
        for (int e = 0; e < expected.Deviation.Length; e++)
        {
            int distance = BitConverter.HalfToUInt16Bits(expected.Deviation[e]) - BitConverter.HalfToUInt16Bits(got.Deviation[e]);
            Assert.True(Math.Abs(distance) <= 1, $"{where}: deviation {e}: expected {expected.Deviation[e]}, got {got.Deviation[e]}");
        }
    }

    private static void Same(Half[] expected, Half[] got, string where)
    {
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.True(expected[i] == got[i], $"{where}: number {i}: expected {expected[i]}, got {got[i]}");
        }
    }
}
