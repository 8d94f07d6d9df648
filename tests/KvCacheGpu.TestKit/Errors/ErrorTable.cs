using System.Globalization;
using System.Text;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>The measured errors as Markdown, which the bench command prints.</summary>
public static class ErrorTable
{
    /// <summary>Keys by encoding and generator, then values.</summary>
    public static string Markdown()
    {
        var text = new StringBuilder("| keys | bits | KL on G | on O | on OT |\n|---|---|---|---|---|\n");
        foreach (KeyEncoding encoding in KeyEncoding.All)
        {
            string[] errors = [.. Enum.GetValues<KeyKind>().Select(kind => Number(encoding.Divergence(kind)))];
            text.Append(CultureInfo.InvariantCulture, $"| {encoding.Name} | {encoding.Bits} | {string.Join(" | ", errors)} |\n");
        }

        text.Append("\n| values | bits | relative error of the output |\n|---|---|---|\n");
        foreach (ValueEncoding encoding in ValueEncoding.All)
        {
            text.Append(CultureInfo.InvariantCulture, $"| {encoding.Format.Name()} | {encoding.Bits} | {Number(encoding.OutputError())} |\n");
        }

        text.Append("\n| levels on N(0, 1) | mean squared error | of Lloyd-Max levels |\n|---|---|---|\n");
        foreach (int bits in new[] { 2, 3, 4 })
        {
            text.Append(CultureInfo.InvariantCulture, $"| {bits} bits | {ErrorOf(bits):0.000000} | {LloydMax.Solve(bits).Error:0.000000} |\n");
        }

        return text.ToString();
    }

    private static double ErrorOf(int bits) => LloydMax.ErrorOf([.. Levels.Of(bits).ToArray().Select(level => level / (double)Levels.Unit(bits))]);

    // Three significant digits.
    private static string Number(double x) => x < 1e-3
        ? x.ToString("0.0e-0", CultureInfo.InvariantCulture)
        : x.ToString(x < 0.01 ? "0.00000" : x < 0.1 ? "0.0000" : "0.000", CultureInfo.InvariantCulture);
}
