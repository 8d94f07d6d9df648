namespace KvCacheGpu.Plots;

/// <summary>One point of a curve.</summary>
/// <param name="X">How far right.</param>
/// <param name="Y">How high.</param>
/// <param name="Low">Lower end of the interval that the height lies in.</param>
/// <param name="High">Its upper end.</param>
public readonly record struct CurvePoint(double X, double Y, double Low, double High);

/// <summary>One curve: a single point is drawn as a mark.</summary>
/// <param name="Name">Its name in the legend.</param>
/// <param name="Points">Its points, in any order.</param>
public sealed record Curve(string Name, IReadOnlyList<CurvePoint> Points);
