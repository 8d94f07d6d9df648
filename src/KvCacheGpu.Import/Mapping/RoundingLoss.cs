using System.Globalization;

namespace KvCacheGpu.Import;

/// <summary>The loss of float64 elements, which are read as float32. There is none if float32 can represent every element.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Elements">Number of elements that differ from those of the file.</param>
/// <param name="Largest">The largest difference, relative to the element.</param>
public readonly record struct RoundingLoss(long Elements, double Largest)
{
    /// <summary>True if every element is as the file holds it.</summary>
    public bool IsNone => Elements == 0;

    /// <summary>"12 elements of float64 are rounded to float32, by at most 3e-08 of what they are".</summary>
    public override string ToString() => IsNone
        ? "no element is rounded"
        : string.Create(CultureInfo.InvariantCulture, $"{Elements} elements of float64 are rounded to float32, by at most {Largest:g2} of what they are");

    internal RoundingLoss And(RoundingLoss other) => new(Elements + other.Elements, Math.Max(Largest, other.Largest));
}
