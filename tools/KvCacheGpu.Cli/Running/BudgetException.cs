namespace KvCacheGpu.Cli;

/// <summary>E001: a memory budget that the asked tokens do not fit: one line, exit 1.</summary>
internal sealed class BudgetException(string expected, string actual)
    : Exception($"E001: --memory-budget: expected {expected}, got {actual}");
