using System.Globalization;

namespace KvCacheGpu.Evaluation;

/// <summary>Proves by the bytes and pages that a cache which should compress really did.</summary>
public static class CompressionProof
{
    /// <summary>The fault of a cell; null if there is none.</summary>
    /// <param name="cell">The cell.</param>
    /// <param name="full">The cell of the same task and seed with the full cache.</param>
    public static string? Fault(EvalCell cell, EvalCell full)
    {
        ArgumentNullException.ThrowIfNull(cell);
        ArgumentNullException.ThrowIfNull(full);
        if (cell.Refused is not null)
        {
            return null;
        }

        string name = $"{cell.Task}, {cell.Setting}, seed {cell.Seed}";
        bool compresses = EvalCaches.Compresses(cell.Format);

        // The full cache's pages are in F32.
        long f16Bytes = full.PageBytes / 2;
        if (cell.BudgetBytes < cell.AllocatedBytes)
        {
            return Text($"{name}: expected at most the budget's {cell.BudgetBytes} bytes, got {cell.AllocatedBytes}");
        }

        if (compresses && cell.SealedPages == 0)
        {
            return Text($"{name}: expected pages in {cell.Format}, got none sealed");
        }

        bool binds = cell.BudgetBytes < f16Bytes;
        if ((compresses || binds) && cell.PageBytes >= f16Bytes)
        {
            return Text($"{name}: expected pages of less than the {f16Bytes} bytes of all tokens in F16, got {cell.PageBytes} with {cell.EvictedTokens:F0} tokens dropped");
        }

        return null;
    }

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
