using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>Writes one page from another, as <see cref="KernelTier.Transcode"/> defines it.</summary>
internal static unsafe class PageTranscript
{
    /// <summary>Writes the target. Returns false if its formats cannot hold the page.</summary>
    public static bool Write(ReferenceTier tier, PageMove move)
    {
        bool isFirstSealing = move.SourceClass == KernelShape.Open;
        if (move.SourceSlot == move.TargetSlot && tier.Shape.Classes[move.SourceClass] != tier.Shape.Classes[move.TargetClass])
        {
            throw new ArgumentException($"{move}: only pages of one layout are sealed where they lie", nameof(move));
        }

        byte[] exponents = tier.Exponents(move.KeyRow);
        if (move.ScoreWord != 0)
        {
            var scores = (float*)(tier.Arena + move.ScoreWord);
            scores[TableMap.ScoreKeySquare] = MeanSquare(tier.Keys(move.SourceSlot, move.SourceClass), exponents, move.Tokens);
            scores[TableMap.ScoreValueSquare] = MeanSquare(tier.Values(move.SourceSlot, move.SourceClass), [], move.Tokens);
        }

        bool holdsKeys = tier.Keys(move.TargetSlot, move.TargetClass)
            .Encode(tier.Keys(move.SourceSlot, move.SourceClass), move.Tokens, isFirstSealing, exponents);
        bool holdsValues = tier.Values(move.TargetSlot, move.TargetClass)
            .Encode(tier.Values(move.SourceSlot, move.SourceClass), move.Tokens, isFirstSealing, []);
        return holdsKeys && holdsValues;
    }

    private static float MeanSquare(ReferencePart part, byte[] exponents, int tokens)
    {
        var vector = new float[part.Place.Width];
        double sum = 0;
        for (int t = 0; t < tokens; t++)
        {
            part.ReadPlain(t, exponents, vector);
            sum += vector.Sum(x => (double)x * x);
        }

        return (float)Math.Min(sum / tokens, float.MaxValue);
    }
}
