using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>One page written from another, as <see cref="KernelTier.Transcode"/> fixes it.</summary>
internal static class PageTranscript
{
    /// <summary>Writes the target; tells whether its formats can hold the page.</summary>
    public static bool Write(ReferenceTier tier, PageMove move)
    {
        bool isFirstSealing = move.SourceClass == KernelShape.Open;
        if (move.SourceSlot == move.TargetSlot && tier.Shape.Classes[move.SourceClass] != tier.Shape.Classes[move.TargetClass])
        {
            throw new ArgumentException($"{move}: only pages of one layout are sealed where they lie", nameof(move));
        }

        bool holdsKeys = tier.Keys(move.TargetSlot, move.TargetClass)
            .Encode(tier.Keys(move.SourceSlot, move.SourceClass), move.Tokens, isFirstSealing);
        bool holdsValues = tier.Values(move.TargetSlot, move.TargetClass)
            .Encode(tier.Values(move.SourceSlot, move.SourceClass), move.Tokens, isFirstSealing);
        return holdsKeys && holdsValues;
    }
}
