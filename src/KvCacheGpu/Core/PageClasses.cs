using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Which layouts a cache's pages have, numbered as kernels see them: 0 open, then those of the layers, then what pages may be
/// demoted to.
/// </summary>
internal sealed class PageClasses
{
    private readonly int[] _ofLayer;
    private readonly bool[] _sealsInPlace;

    /// <param name="shape">Geometry and layouts.</param>
    /// <param name="ofLayer">By layer: the class that its pages are sealed in.</param>
    /// <param name="targets">Classes that pages may be demoted to, bit c for class c.</param>
    /// <param name="seals">When pages are sealed.</param>
    public PageClasses(KernelShape shape, int[] ofLayer, int targets, SealRule seals)
    {
        (Shape, _ofLayer, Targets, Seals) = (shape, ofLayer, targets, seals);
        _sealsInPlace = [.. ofLayer.Select(c => shape.Classes[c] == shape.Classes[KernelShape.Open])];
        IsExact = ofLayer.All(c => shape.Classes[c].KeyFormat.IsFullPrecision() && shape.Classes[c].ValueFormat.IsFullPrecision());
    }

    public KernelShape Shape { get; }

    /// <summary>The classes of a part of the model: the same, with the same numbers, so that pages of all parts make one plan and one snapshot.</summary>
    /// <param name="geometry">The part's shape.</param>
    /// <param name="firstLayer">The part's first layer.</param>
    public PageClasses Part(KvGeometry geometry, int firstLayer)
    {
        Range layers = firstLayer..(firstLayer + geometry.Layers);
        var shape = new KernelShape(
            geometry, Shape.Classes, Shape.RotationSeed, Shape.Sequences, Shape.TableCapacity, [.. Shape.LayerClasses.Take(layers)], Shape.KeepsNonFinite)
        {
            HasStatistics = Shape.HasStatistics,
            Precision = Shape.Precision,
            MeasuresKernels = Shape.MeasuresKernels,
        };
        return new PageClasses(shape, _ofLayer[layers], Targets, Seals);
    }

    /// <summary>When pages are sealed.</summary>
    public SealRule Seals { get; }

    /// <summary>Classes that pages may be demoted to, bit c for class c.</summary>
    public int Targets { get; }

    /// <summary>True if all layers seal in full precision: a page that is opened again has not changed.</summary>
    public bool IsExact { get; }

    public int Count => Shape.Classes.Count;

    /// <summary>The largest class that pages are sealed in: a slot of it takes any sealed page.</summary>
    public int LargestSealed => Enumerable.Range(1, Count - 1).MaxBy(c => Shape.Classes[c].Units);

    private KvGeometry Geometry => Shape.Geometry;

    /// <summary>The class that a layer's pages are sealed in.</summary>
    public int SealedIn(int layer) => _ofLayer[layer];

    /// <summary>True if a layer's pages are sealed where they lie.</summary>
    public bool SealsInPlace(int layer) => _sealsInPlace[layer];

    /// <summary>True if a layer's sealed pages may come to a class by demotion.</summary>
    public bool MayBecome(int layer, int pageClass) => (Targets & Shape.LayerClasses[layer] & (1 << pageClass)) != 0;

    /// <summary>The class of a pair of formats that pages may be demoted to, or -1.</summary>
    public int TargetOf(KvFormats formats)
    {
        for (int c = 1; c < Count; c++)
        {
            if ((Targets & (1 << c)) != 0 && FormatsOf(c) == formats)
            {
                return c;
            }
        }

        return -1;
    }

    public KvFormats FormatsOf(int pageClass) => new(Shape.Classes[pageClass].KeyFormat, Shape.Classes[pageClass].ValueFormat);

    /// <summary>True if a page of a class loses precision a second time when its sequence is cut inside of it and grows again.</summary>
    public bool IsReencoded(int pageClass, int layer)
    {
        (PageLayout now, PageLayout then) = (Shape.Classes[pageClass], Shape.Classes[_ofLayer[layer]]);
        return (!now.KeyFormat.IsFullPrecision() && !then.KeyFormat.IsFullPrecision())
            || (!now.ValueFormat.IsFullPrecision() && !then.ValueFormat.IsFullPrecision());
    }

    /// <summary>Bytes of the pages of a sequence of so many tokens, between steps.</summary>
    public long PageBytes(int tokens)
    {
        int sealedPages = Seals.FirstOpen(tokens);
        return BytesOf(sealedPages, Geometry.PagesFor(tokens) - sealedPages);
    }

    /// <summary>The most bytes that its pages take while it grows to so many tokens one by one.</summary>
    public long MostPageBytes(int tokens)
    {
        // The step that seals a page holds its open slot and its new one at once, and the most open pages that there are.
        int sealedPages = Seals.FirstOpen(tokens);
        return sealedPages == 0 ? PageBytes(tokens) : BytesOf(sealedPages, Seals.MostOpen, inPlace: Geometry.PagesFor(tokens));
    }

    /// <summary>Slots by class: so many for each KV head of every layer, in the class that it seals in.</summary>
    /// <param name="slots">Added to.</param>
    /// <param name="pages">Pages of one (layer, KV head), by whether the layer seals in place.</param>
    public void AddSealed(long[] slots, Func<bool, long> pages)
    {
        for (int layer = 0; layer < Geometry.Layers; layer++)
        {
            slots[_ofLayer[layer]] += pages(_sealsInPlace[layer]) * Geometry.KvHeads;
        }
    }

    // Of so many sealed and open pages in every row; layers that seal in place have their own number of pages, where it is given.
    private long BytesOf(int sealedPages, int openPages, int? inPlace = null)
    {
        long open = Shape.Classes[KernelShape.Open].Bytes;
        long bytes = 0;
        for (int layer = 0; layer < Geometry.Layers; layer++)
        {
            bytes += SealsInPlace(layer)
                ? (inPlace ?? sealedPages + openPages) * open
                : ((long)sealedPages * Shape.Classes[SealedIn(layer)].Bytes) + (openPages * open);
        }

        return bytes * Geometry.KvHeads;
    }
}
