using System.Buffers.Binary;

namespace KvCacheGpu.Plots.Tests;

public sealed class CurvePlotTests
{
    private static readonly byte[] Signature = [0x89, (byte)'P', (byte)'N', (byte)'G', 0x0d, 0x0a, 0x1a, 0x0a];

    [Fact]
    public void A_plot_is_a_PNG_of_its_size()
    {
        byte[] png = Plot(new Curve("falling", [new(10, 1, .9, 1), new(100, 5, 4, 6)]), new Curve("alone", [new(60, 3, 3, 3)])).ToPng();
        Assert.Equal(Signature, png[..8]);
        Assert.Equal("IHDR"u8, png.AsSpan(12, 4));
        Assert.Equal(CurvePlot.Width, BinaryPrimitives.ReadInt32BigEndian(png.AsSpan(16)));
        Assert.Equal(CurvePlot.Height, BinaryPrimitives.ReadInt32BigEndian(png.AsSpan(20)));
        Assert.Equal("IEND"u8, png.AsSpan(png.Length - 8, 4));
    }

    [Fact]
    public void Points_are_drawn_where_they_are()
    {
        byte[] one = Plot(new Curve("a", [new(0, 0, 0, 0), new(1, 1, 1, 1)])).ToPng();
        Assert.NotEqual(one, Plot(new Curve("a", [new(0, 0, 0, 0), new(1, 1, .5, 1.5)])).ToPng());
        Assert.NotEqual(one, Plot(new Curve("b", [new(0, 0, 0, 0), new(1, 1, 1, 1)])).ToPng());
        Assert.Equal(one, Plot(new Curve("a", [new(1, 1, 1, 1), new(0, 0, 0, 0)])).ToPng());
    }

    [Fact]
    public void Curves_beyond_the_colours_are_told_apart_from_those_before()
    {
        Curve[] eleven = [.. Enumerable.Range(0, 11).Select(i => new Curve("same", [new(0, i, i, i), new(1, i, i, i)]))];
        byte[] swapped = Plot([eleven[10], .. eleven[1..10], eleven[0]]).ToPng();
        Assert.NotEqual(Plot(eleven).ToPng(), swapped);
    }

    [Fact]
    public void No_curve_is_an_empty_plot() => Assert.Equal(Signature, Plot().ToPng()[..8]);

    private static CurvePlot Plot(params Curve[] curves) => new("title", "bytes", "quality", curves);
}
