using System.Globalization;

namespace KvCacheGpu.Import;

/// <summary>What is lost of float64 elements, which are read as float32. Nothing where every element is one that float32 has.</summary>
/// <param name="Elements">How many elements are not what the file holds.</param>
/// <param name="Largest">The largest difference, relative to the element.</param>
public readonly record struct RoundingLoss(long Elements, double Largest)
{
    /// <summary>Whether every element is as the file holds it.</summary>
    public bool IsNone => Elements == 0;

    /// <summary>"12 elements of float64 are rounded to float32, by at most 3e-08 of what they are".</summary>
    public override string ToString() => IsNone
        ? "no element is rounded"
        : string.Create(CultureInfo.InvariantCulture, $"{Elements} elements of float64 are rounded to float32, by at most {Largest:g2} of what they are");

    internal RoundingLoss And(RoundingLoss other) => new(Elements + other.Elements, Math.Max(Largest, other.Largest));
}
