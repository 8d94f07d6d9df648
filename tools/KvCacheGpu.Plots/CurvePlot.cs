using ScottPlot;

namespace KvCacheGpu.Plots;

/// <summary>Curves with their intervals, as a PNG.</summary>
/// <param name="Title">Its title.</param>
/// <param name="XLabel">Label of the horizontal axis.</param>
/// <param name="YLabel">Label of the vertical axis.</param>
/// <param name="Curves">The curves.</param>
public sealed record CurvePlot(string Title, string XLabel, string YLabel, IReadOnlyList<Curve> Curves)
{
    /// <summary>Width of the picture in pixels.</summary>
    public const int Width = 1_000;

    /// <summary>Height of the picture in pixels.</summary>
    public const int Height = 620;

    private const float PointSize = 8;
    private const float MarkSize = 13;
    private const double Margin = .06;

    private static readonly ScottPlot.Palettes.Category10 _palette = new ScottPlot.Palettes.Category10();

    /// <summary>Draws the picture.</summary>
    /// <returns>The bytes of a PNG file.</returns>
    public byte[] ToPng()
    {
        using Plot plot = new();
        plot.Title(Title);
        plot.XLabel(XLabel);
        plot.YLabel(YLabel);

        // Marks are drawn last and larger, so that a curve that ends in one does not hide it.
        foreach ((int index, Curve curve) in Curves.OrderBy(c => c.Points.Count == 1).Index())
        {
            Add(plot, curve, index);
        }

        plot.Axes.Margins(Margin, Margin);
        plot.ShowLegend(Edge.Right);
        return plot.GetImage(Width, Height).GetImageBytes(ImageFormat.Png);
    }

    // When the colours are used up, they are repeated with dashes and squares.
    private static void Add(Plot plot, Curve curve, int index)
    {
        bool isRepeated = index >= _palette.Colors.Length;
        CurvePoint[] points = [.. curve.Points.OrderBy(p => p.X)];
        var line = plot.Add.Scatter(points.Select(p => p.X).ToArray(), points.Select(p => p.Y).ToArray());
        line.LegendText = curve.Name;
        line.Color = _palette.GetColor(index);
        line.LinePattern = isRepeated ? LinePattern.Dashed : LinePattern.Solid;
        line.MarkerSize = points.Length == 1 ? MarkSize : PointSize;
        line.MarkerShape = points.Length == 1 ? MarkerShape.OpenDiamond : isRepeated ? MarkerShape.FilledSquare : MarkerShape.FilledCircle;
        foreach (CurvePoint p in points.Where(p => p.High > p.Low))
        {
            plot.Add.Line(p.X, p.Low, p.X, p.High).Color = line.Color;
        }
    }
}

/// <summary>One point of a curve.</summary>
/// <param name="X">Its horizontal position.</param>
/// <param name="Y">Its height.</param>
/// <param name="Low">Lower end of the interval of the height.</param>
/// <param name="High">Upper end of the interval of the height.</param>
public readonly record struct CurvePoint(double X, double Y, double Low, double High);

/// <summary>One curve. A single point is drawn as a mark.</summary>
/// <param name="Name">Its name in the legend.</param>
/// <param name="Points">Its points, in any order.</param>
public sealed record Curve(string Name, IReadOnlyList<CurvePoint> Points);
