namespace KvCacheGpu.Import;

/// <summary>What is lost of float64 elements, which are read as float32. Nothing where every element is one that float32 has.</summary>
/// <param name="Elements">How many elements are not what the file holds.</param>
/// <param name="Largest">The largest difference, relative to the element.</param>
public readonly record struct RoundingLoss(long Elements, double Largest)
{
    /// <summary>Whether every element is as the file holds it.</summary>
    public bool IsNone => Elements == 0;

    internal RoundingLoss And(RoundingLoss other) => new(Elements + other.Elements, Math.Max(Largest, other.Largest));
}
