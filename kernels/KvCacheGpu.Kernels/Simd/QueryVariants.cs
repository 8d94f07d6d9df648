namespace KvCacheGpu.Kernels;

/// <summary>
/// The forms in which page classes want their queries: plain, rotated, or divided by their row's key scales and rotated, and times the key codec's factor. Each distinct form
/// is prepared once, however many classes read with it.
/// </summary>
internal sealed class QueryVariants
{
    private readonly List<(bool Rotated, bool Scaled, float Factor)> _variants = [];
    private readonly int[] _ofClass;

    public QueryVariants(KernelShape shape)
    {
        _ofClass = new int[shape.Classes.Count];
        for (int c = 0; c < _ofClass.Length; c++)
        {
            PageFormat format = shape.Classes[c].KeyFormat;
            (bool, bool, float) variant = (format.IsRotated(), format.IsCentered(), SimdFormats.Factor(format));
            if (!_variants.Contains(variant))
            {
                _variants.Add(variant);
            }

            _ofClass[c] = _variants.IndexOf(variant);
        }
    }

    /// <summary>The variant of the open class: plain, and what the others are made from.</summary>
    public const int Plain = 0;

    public int Count => _variants.Count;

    /// <summary>The variant that a page class reads with.</summary>
    public int Of(int pageClass) => _ofClass[pageClass];

    public bool IsRotated(int variant) => _variants[variant].Rotated;

    /// <summary>True if the queries are divided by key scales before they are rotated.</summary>
    public bool IsScaled(int variant) => _variants[variant].Scaled;

    public float Factor(int variant) => _variants[variant].Factor;
}
