using System.Globalization;

namespace KvCacheGpu.Measuring;

/// <summary>A measurement to make.</summary>
/// <param name="Name">Kernel and size.</param>
/// <param name="Target">The fraction of the device's copy, or of its tensor cores' peak, that a kernel for an H200 shall reach; 0 where it has none.</param>
/// <param name="Of">What <paramref name="Target"/> is a fraction of: "copy" or "mma".</param>
internal abstract record BenchRow(string Name, double Target, string Of);

/// <summary>Attention, of decode or of a chunk of a prompt.</summary>
internal sealed record AttendRow(string Name, AttendShape Shape, TensorType Type, double Target, string Of) : BenchRow(Name, Target, Of);

/// <summary>Tokens written into open pages.</summary>
internal sealed record AppendRow(string Name, int Tokens, TensorType Type, double Target) : BenchRow(Name, Target, "copy");

/// <summary>Open pages sealed in a pair of formats, or, if there is a lower pair, sealed ones demoted to it.</summary>
internal sealed record EncodeRow(string Name, int Tokens, FormatPair To, FormatPair? Lower, double Target) : BenchRow(Name, Target, "copy");

/// <summary>Formats of keys and values.</summary>
internal readonly record struct FormatPair(PageFormat Key, PageFormat Value)
{
    /// <summary>A key format with the values that go with it: V with T, every other format with itself.</summary>
    public static FormatPair Of(PageFormat key) => new(key, key.IsCentered() ? key - PageFormat.T4 + PageFormat.V4 : key);

    public override string ToString() => Key == Value ? $"{Key}" : $"{Key}/{Value}";
}

/// <summary>What is measured, the most telling rows first: who runs out of time drops the last ones.</summary>
internal static class BenchPlan
{
    // What a device may hold at once for one row; the heads of larger ones are fewer.
    private const long MostBytes = 5L << 30;

    // Smaller rows measure launches and caches rather than memory.
    private const long LeastBytesForTarget = 128L << 20;

    private static readonly PageFormat[] _formats = [PageFormat.F16, PageFormat.I8, PageFormat.T4, PageFormat.T2, PageFormat.BF16, PageFormat.FP8, PageFormat.T3];

    /// <summary>The rows of a GPU, or the few that an emulator or the host's processor takes.</summary>
    public static IReadOnlyList<BenchRow> Rows(MeasuredDevice target) => target.IsEmulated || !target.IsGpu ? Small(target.IsEmulated) : Gpu();

    private static List<BenchRow> Small(bool isEmulator)
    {
        (int width, int heads) = isEmulator ? (64, 2) : (128, 8);
        FormatPair[] pairs = [.. new[] { PageFormat.F16, PageFormat.I8, PageFormat.T4, PageFormat.T2 }.Select(FormatPair.Of)];
        int[] contexts = isEmulator ? [1024] : [1024, 8192, 32768];
        int[] encoded = isEmulator ? [64] : [512, 8192];
        return
        [
            .. from pair in pairs from context in contexts select Decode(new AttendShape(width, heads, 4, 1, context, pair.Key, pair.Value)),
            Prefill(new AttendShape(width, heads, 4, 1, isEmulator ? 128 : 512, PageFormat.F16, PageFormat.F16, QueryTokens: isEmulator ? 64 : 512)),
            .. (isEmulator ? [1, 64] : new[] { 1, 512, 8192 }).Select(tokens => Append(tokens, TensorType.F32)),
            .. from tokens in encoded from pair in pairs[1..] select Encode(tokens, pair),
            .. from tokens in encoded from step in Demotions() select Demote(tokens, step.From, step.To),
        ];
    }

    /// <summary>The rows of a GPU.</summary>
    public static IReadOnlyList<BenchRow> Gpu()
    {
        // Decode: the row that the targets are stated for, then those that differ from it in one thing, in two, and so on.
        AttendRow[] decode =
        [
            .. from context in new[] { 8192, 1024, 32768, 131072 }
               from sequences in new[] { 32, 256, 1 }
               from sharing in new[] { 4, 8, 1 }
               from width in new[] { 128, 64 }
               from format in _formats.Select((f, i) => (Pair: FormatPair.Of(f), Rank: i))
               let shape = Fit(new AttendShape(width, 8, sharing, sequences, context, format.Pair.Key, format.Pair.Value))
               where shape.PageBytes <= MostBytes
               let differences = (context == 8192 ? 0 : 1) + (sequences == 32 ? 0 : 1) + (sharing == 4 ? 0 : 1) + (width == 128 ? 0 : 1) + (format.Rank < 4 ? 0 : 1)
               orderby differences
               select Decode(shape),
        ];
        List<BenchRow> rows =
        [
            .. decode.Take(4),
            .. from chunk in new[] { 4096, 512 }
               from before in new[] { 8192, 0, 32768 }
               from format in new[] { PageFormat.F16, PageFormat.T4 }
               from precision in new[] { KvAttentionPrecision.Fast, KvAttentionPrecision.Exact }
               let pair = FormatPair.Of(format)
               select Prefill(new AttendShape(128, 8, 4, 1, before + chunk, pair.Key, pair.Value, QueryTokens: chunk, Precision: precision)),
            .. from tokens in new[] { 32768, 512, 1 } from type in new[] { TensorType.F16, TensorType.F32 } select Append(tokens, type),
            .. from tokens in new[] { 32768, 512 } from format in _formats.Where(f => !f.IsFullPrecision()) select Encode(tokens, FormatPair.Of(format)),
            .. from tokens in new[] { 32768, 512 } from step in Demotions() select Demote(tokens, step.From, step.To),
            .. decode.Skip(4),
        ];
        return rows;
    }

    private static (FormatPair From, FormatPair To)[] Demotions() =>
        [(FormatPair.Of(PageFormat.I8), FormatPair.Of(PageFormat.T4)), (FormatPair.Of(PageFormat.T4), FormatPair.Of(PageFormat.T2))];

    private static AttendShape Fit(AttendShape shape)
    {
        while (shape.PageBytes > MostBytes && shape.KvHeads > 1)
        {
            shape = shape with { KvHeads = shape.KvHeads / 2 };
        }

        return shape;
    }

    private static AttendRow Decode(AttendShape shape)
    {
        double target = shape.Key switch
        {
            PageFormat.F16 or PageFormat.BF16 => 0.9,
            PageFormat.I8 or PageFormat.FP8 => 0.85,
            PageFormat.T4 => 0.75,
            _ => 0.6,
        };

        // Many short sequences may cost a tenth more than few long ones.
        target = shape is { Sequences: 256, Context: 1024 } ? target * 0.9 : target;
        string heads = shape.KvHeads == 8 ? string.Empty : Text($", {shape.KvHeads} KV heads");
        return new AttendRow(Text($"attend {shape}{heads}"), shape, TensorType.F32, Reached(target, shape.PageBytes), "copy");
    }

    private static AttendRow Prefill(AttendShape shape) => new(
        Text($"prefill {shape.QueryTokens} at {(shape.Context - shape.QueryTokens) / 1024}k d{shape.Width} GQA {shape.GroupSize} {new FormatPair(shape.Key, shape.Value)}{(shape.Precision == KvAttentionPrecision.Fast ? " fast" : string.Empty)}"),
        shape,
        TensorType.F32,
        shape.QueryTokens < 512 ? 0 : shape.Precision == KvAttentionPrecision.Fast ? 0.35 : 0.18,
        "mma");

    private static AppendRow Append(int tokens, TensorType type) => new(
        Text($"append {tokens} tokens x 8 heads d128 F16{(type == TensorType.F32 ? string.Empty : $", tensors in {type}")}"), tokens, type, Written(tokens));

    private static EncodeRow Encode(int tokens, FormatPair to) =>
        new(Text($"encode {tokens} tokens x 8 heads d128 F16 to {to}"), tokens, to, null, Written(tokens));

    private static EncodeRow Demote(int tokens, FormatPair from, FormatPair to) =>
        new(Text($"transcode {tokens} tokens x 8 heads d128 {from} to {to}"), tokens, from, to, Written(tokens));

    private static double Written(int tokens) => tokens >= 32768 ? 0.7 : 0;

    private static double Reached(double target, long bytes) => bytes >= LeastBytesForTarget ? target : 0;

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
