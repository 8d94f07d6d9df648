namespace KvCacheGpu.Kernels;

/// <summary>
/// The forms in which a layer's page classes want their queries: plain or rotated, and times the key codec's factor. Each distinct form is
/// prepared once, however many classes read with it.
/// </summary>
internal sealed class QueryVariants
{
    private readonly List<(bool Rotated, float Factor)> _variants = [];
    private readonly int[] _ofClass;
    private readonly int[] _ofLayer;

    public QueryVariants(KernelShape shape)
    {
        _ofClass = new int[shape.Classes.Count];
        for (int c = 0; c < _ofClass.Length; c++)
        {
            PageFormat format = shape.Classes[c].KeyFormat;
            (bool, float) variant = (format.IsRotated(), SimdFormats.Factor(format));
            if (!_variants.Contains(variant))
            {
                _variants.Add(variant);
            }

            _ofClass[c] = _variants.IndexOf(variant);
        }

        _ofLayer = new int[shape.LayerClasses.Count];
        for (int layer = 0; layer < _ofLayer.Length; layer++)
        {
            for (int c = 0; c < _ofClass.Length; c++)
            {
                _ofLayer[layer] |= c == KernelShape.Open || ((shape.LayerClasses[layer] >> c) & 1) != 0 ? 1 << _ofClass[c] : 0;
            }
        }
    }

    public int Count => _variants.Count;

    /// <summary>The variant that a page class reads with; the open class reads with 0, which is plain and in every layer.</summary>
    public int Of(int pageClass) => _ofClass[pageClass];

    public bool IsUsed(int layer, int variant) => ((_ofLayer[layer] >> variant) & 1) != 0;

    public bool IsRotated(int variant) => _variants[variant].Rotated;

    public float Factor(int variant) => _variants[variant].Factor;
}
