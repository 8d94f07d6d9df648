using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>
/// The generated grid: every natural pair of sealed formats with every pair of widths that it takes, I8 beside another format with
/// half of them; head groupings, page sizes, layers and batches change with strides coprime to their numbers, so that each value meets every other.
/// </summary>
public static class AttentionGrid
{
    private static readonly (int Key, int Value)[] Widths =
    [
        (8, 8), (48, 48), (64, 64), (80, 80), (96, 96), (128, 128), (192, 192), (256, 256), (576, 576),
        (192, 128), (576, 512), (8, 64), (64, 48), (80, 128),
    ];

    private static readonly (int Query, int Kv)[] Heads = [(1, 1), (4, 4), (4, 1), (2, 1), (8, 2), (8, 1), (3, 1), (6, 2)];

    // The usual logits for a third of the cases; scales and caps, alone and together, caps from far below the logits to far above them.
    private static readonly Func<KvGeometry, KvGeometry>[] Logits =
    [
        g => g,
        g => g with { LogitSoftCap = 50 },
        g => g with { AttentionScale = 0.0625f },
        g => g,
        g => g with { AttentionScale = 1.4f / MathF.Sqrt(g.KeyWidth), LogitSoftCap = 3 },
        g => g with { LogitSoftCap = 1e-4f },
        g => g,
        g => g with { AttentionScale = 0.01f, LogitSoftCap = 1e5f },
        g => g with { LogitSoftCap = 0.7f },
        g => g,
        g => g with { AttentionScale = 0.3f / MathF.Sqrt(g.KeyWidth) },
    ];

    private static readonly int[] PageTokens = [16, 5, 64, 1, 16, 128, 5];

    /// <summary>Every case, 224 of them.</summary>
    public static IReadOnlyList<AttentionCase> All { get; } = [.. Generate()];

    /// <summary>The cases that an emulator runs in a minute: the cheap two fifths, which still hold every format, width, grouping and batch.</summary>
    public static IEnumerable<AttentionCase> Emulated => All.Where(c => c.Index % 5 is 1 or 4 && c.Cost < 12_000_000);

    /// <summary>The cheapest case of each natural pair of encoded formats that attends sealed pages, for groups with barriers.</summary>
    public static IEnumerable<AttentionCase> Few { get; } =
    [
        .. from pair in FormatPairs.Natural
           where !pair.Key.IsFullPrecision()
           select All.Where(c => (c.SealedKey, c.SealedValue) == pair && c.Parts.Any(p => p.History >= 2 * c.Geometry.PageTokens))
               .MinBy(c => c.Cost * (c.Geometry.PageTokens == 1 ? 100 : 1)),
    ];

    /// <summary>The cases in which tensor cores attend pages of some format.</summary>
    public static IEnumerable<AttentionCase> OnTensorCores => All.Where(c => c.Shape.Classes.Any(layout => TensorKernels.Refusal(c.Geometry, layout.KeyFormat, layout.ValueFormat) is null));

    /// <summary>The case of a name.</summary>
    public static AttentionCase Find(string name) => All.Single(c => c.Name == name);

    private static IEnumerable<AttentionCase> Generate()
    {
        int index = 0;
        for (int pair = 0; pair < FormatPairs.All.Length; pair++)
        {
            (PageFormat key, PageFormat value) = FormatPairs.All[pair];
            for (int i = 0; i < Widths.Length; i++)
            {
                bool isChosen = pair < FormatPairs.Natural.Length || (pair + i) % 2 == 0;
                if (isChosen && key.Takes(Widths[i].Key) && value.Takes(Widths[i].Value))
                {
                    yield return Case(index++, (key, value), Widths[i].Key, Widths[i].Value);
                }
            }
        }
    }

    private static AttentionCase Case(int index, (PageFormat Key, PageFormat Value) pair, int keyWidth, int valueWidth)
    {
        // 14 widths in a round: the round's number shifts each axis, so that a width meets every value of it.
        int turn = index + (index / Widths.Length);
        int pageTokens = PageTokens[turn % PageTokens.Length];
        pageTokens = keyWidth >= 192 && pageTokens > 64 ? 64 : pageTokens;
        (int query, int kv) = Heads[(turn * 3) % Heads.Length];
        var geometry = new KvGeometry(1 + (turn % 2), query, kv, keyWidth, valueWidth, pageTokens);
        geometry = Logits[(turn * 2) % Logits.Length](geometry);
        PageFormat open = FormatPairs.OpenFor(pair, turn);
        return new AttentionCase(index, geometry, open, pair.Key, pair.Value, Batch((turn + (turn / 8)) % 8, pageTokens));
    }

    // Lengths 1, P-1, P, P+1 and several pages with an odd rest; decoding alone, chunks alone, and both in one launch.
    private static CasePart[] Batch(int kind, int p) => kind switch
    {
        0 => [new((3 * p) + 2, 1)],
        1 => [new(0, 1)],
        2 => [new(Math.Max(0, p - 2), 1), new(p - 1, 1), new(p, 1), new((2 * p) + 3, 1)],
        3 => [new(0, p + 1)],
        4 => [new((2 * p) + 1, 1), new(p, Math.Min(p, 9) + 2), new(0, 3)],
        5 => [new((4 * p) + 3, 3)],
        6 => [new(0, 1), new((3 * p) - 1, 1), new(p + 1, 5), new(2 * p, 1)],
        _ => [new((2 * p) - 1, Math.Min(p, 7) + 1), new((5 * p) - 1, 1)],
    };
}
