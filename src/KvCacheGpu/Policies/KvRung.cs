namespace KvCacheGpu;

/// <summary>One class that pages are stored as, and what it costs a page to become that.</summary>
/// <param name="Bytes">Bytes of a page.</param>
/// <param name="KeyError">Normalised squared error of keys (NMSE, |k - k'|^2 / |k|^2) that encoding into this class adds.</param>
/// <param name="ValueError">The same of values.</param>
/// <param name="DemotesTo">Classes that a page of this class may be written as: bit c is class c.</param>
public readonly record struct KvRung(int Bytes, float KeyError, float ValueError, int DemotesTo);
