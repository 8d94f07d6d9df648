using System.Diagnostics.CodeAnalysis;
using System.Reflection;
using ILGPU.Runtime;

namespace KvCacheGpu.Kernels;

/// <summary>A kernel of attention on tensor cores, closed over its formats and sizes.</summary>
/// <param name="Name">The name in reports: "tensor8-F16-F16-d128-p64" is that of 8 queries a block, head width 128 and pages of 64 tokens.</param>
/// <param name="Method">The kernel.</param>
/// <param name="Warps">Warps of a group.</param>
internal sealed record TensorKernel(string Name, MethodInfo Method, int Warps)
{
    /// <summary>Groups that a multiprocessor holds: the compiler then leaves room for their registers.</summary>
    public int Groups { get; init; } = 3;

    /// <summary>Threads of a group, and the groups that have to fit.</summary>
    public KernelSpecialization Specialization => new(32 * Warps, Groups);
}

/// <summary>The kernels of attention on tensor cores by name: which there are, and why there is none for other pages.</summary>
[UnconditionalSuppressMessage("Trimming", "IL2055", Justification = PortableKernels.ForDevices)]
[UnconditionalSuppressMessage("Trimming", "IL2060", Justification = PortableKernels.ForDevices)]
[UnconditionalSuppressMessage("Trimming", "IL2072", Justification = PortableKernels.ForDevices)]
[UnconditionalSuppressMessage("Trimming", "IL2076", Justification = PortableKernels.ForDevices)]
[UnconditionalSuppressMessage("AOT", "IL3050", Justification = PortableKernels.ForDevices)]
internal static class TensorKernels
{
    // A loop of more turns is rolled up: unrolled it would be too much code. For wide heads sooner, as each turn has more of it.
    private const int MostTurns = 16;
    private const int MostWideTurns = 2;

    // Bytes of shared memory that a group may have without asking for more.
    private const int MostShared = 48 << 10;

    // How the keys of a format are read.
    private static readonly Dictionary<PageFormat, Type> _keys = new()
    {
        [PageFormat.F16] = typeof(F16Keys),
        [PageFormat.BF16] = typeof(BF16Keys),
        [PageFormat.FP8] = typeof(Fp8Keys),
        [PageFormat.I8] = typeof(I8Keys),
        [PageFormat.T4] = typeof(T4Keys),
        [PageFormat.T3] = typeof(T3Keys),
        [PageFormat.T2] = typeof(T2Keys),
    };

    // How the values of a format are read: the first line of a format whose multiple divides the width. Wider loads come first.
    private static readonly (PageFormat Format, int Multiple, Type Tiles)[] _values =
    [
        (PageFormat.F16, 64, typeof(F16Values<N4>)),
        (PageFormat.F16, 32, typeof(F16Values<N2>)),
        (PageFormat.F16, 16, typeof(F16Values<N1>)),
        (PageFormat.BF16, 64, typeof(BF16Values<N4>)),
        (PageFormat.BF16, 32, typeof(BF16Values<N2>)),
        (PageFormat.BF16, 16, typeof(BF16Values<N1>)),
        (PageFormat.FP8, 64, typeof(Fp8Values<N2>)),
        (PageFormat.FP8, 16, typeof(Fp8Values<N1>)),
        (PageFormat.I8, 64, typeof(I8Values<N2>)),
        (PageFormat.I8, 16, typeof(I8Values<N1>)),
        (PageFormat.V4, 64, typeof(V4Values)),
        (PageFormat.V4, 32, typeof(V4NarrowValues<N32>)),
        (PageFormat.V4, 16, typeof(V4NarrowValues<N16>)),
        (PageFormat.V3, 16, typeof(V3Values)),
        (PageFormat.V2, 16, typeof(V2Values)),
    ];

    private static readonly (PageFormat Key, PageFormat Value)[] _pairs =
    [
        (PageFormat.F16, PageFormat.F16),
        (PageFormat.BF16, PageFormat.BF16),
        (PageFormat.FP8, PageFormat.FP8),
        (PageFormat.I8, PageFormat.I8),
        (PageFormat.T4, PageFormat.V4),
        (PageFormat.T3, PageFormat.V3),
        (PageFormat.T2, PageFormat.V2),
        (PageFormat.I8, PageFormat.V4),
        (PageFormat.I8, PageFormat.V3),
        (PageFormat.I8, PageFormat.V2),
    ];

    private static readonly (int Key, int Value)[] _widths = [(64, 64), (80, 80), (96, 96), (128, 128), (256, 256), (576, 512)];

    private static readonly int[] _pageTokens = [16, 32, 64, 128];

    private static readonly Dictionary<int, Type> _numbers = new()
    {
        [16] = typeof(N16),
        [32] = typeof(N32),
        [64] = typeof(N64),
        [80] = typeof(N80),
        [96] = typeof(N96),
        [128] = typeof(N128),
        [256] = typeof(N256),
        [512] = typeof(N512),
        [576] = typeof(N576),
    };

    /// <summary>The pairs of formats that have kernels.</summary>
    public static IReadOnlyList<(PageFormat Key, PageFormat Value)> Pairs => _pairs;

    /// <summary>The widths of keys and values that have kernels, for the formats of <see cref="Pairs"/> that take them.</summary>
    public static IReadOnlyList<(int Key, int Value)> Widths => _widths;

    /// <summary>Tokens of the pages that have kernels.</summary>
    public static IReadOnlyList<int> PageTokens => _pageTokens;

    /// <summary>
    /// The kernels that offline tools compile: all pairs of formats at head width 128 and 64 tokens a page; of two pairs the other widths and the other page sizes too.
    /// All that a tier can ask for are too many, as each takes seconds. Of those for many queries a few pairs.
    /// </summary>
    public static IEnumerable<TensorKernel> Samples() => FewQueries().Concat(ManyQueries());

    private static IEnumerable<TensorKernel> FewQueries() =>
        from pair in _pairs
        from width in _widths
        from tokens in _pageTokens
        let isUsual = width == (128, 128) && tokens == 64
        let isVaried = pair.Key is PageFormat.F16 or PageFormat.T4 && (width == (128, 128) || tokens == 64)
        let geometry = new KvGeometry(1, 1, 1, width.Key, width.Value, tokens)
        where (isUsual || isVaried) && Refusal(geometry, pair.Key, pair.Value) is null
        from queries in (int[])[8, 4]
        select Of(geometry, pair.Key, pair.Value, queries);

    private static IEnumerable<TensorKernel> ManyQueries()
    {
        KvGeometry geometry = new(1, 1, 1, 128, 128, 64);
        yield return Prefill(geometry, PageFormat.F16, PageFormat.F16, KvAttentionPrecision.Exact)!;
        yield return Prefill(geometry, PageFormat.F16, PageFormat.F16, KvAttentionPrecision.Fast)!;
        yield return Prefill(geometry, PageFormat.BF16, PageFormat.BF16, KvAttentionPrecision.Exact)!;
        yield return Prefill(geometry, PageFormat.I8, PageFormat.I8, KvAttentionPrecision.Exact)!;
        yield return Prefill(geometry, PageFormat.T4, PageFormat.V4, KvAttentionPrecision.Exact)!;
        yield return Prefill(geometry, PageFormat.T4, PageFormat.V4, KvAttentionPrecision.Fast)!;
        foreach (int width in (int[])[80, 96])
        {
            geometry = new KvGeometry(1, 1, 1, width, width, 64);
            yield return Prefill(geometry, PageFormat.F16, PageFormat.F16, KvAttentionPrecision.Exact)!;
            yield return Prefill(geometry, PageFormat.T4, PageFormat.V4, KvAttentionPrecision.Exact)!;
        }
    }

    /// <summary>Says why there is no kernel for pages, or returns null if there is one.</summary>
    public static string? Refusal(KvGeometry geometry, PageFormat key, PageFormat value)
    {
        if (!_keys.ContainsKey(key))
        {
            return $"{key} keys";
        }

        if (!Array.Exists(_values, v => v.Format == value))
        {
            return $"{value} values";
        }

        if (!_pairs.Contains((key, value)))
        {
            return $"{key} keys beside {value} values";
        }

        if (!_widths.Contains((geometry.KeyWidth, geometry.ValueWidth)) || ValuesOf(value, geometry.ValueWidth) is null)
        {
            return geometry.KeyWidth == geometry.ValueWidth ? $"head width {geometry.KeyWidth}" : $"head widths {geometry.KeyWidth} of keys and {geometry.ValueWidth} of values";
        }

        if (!_pageTokens.Contains(geometry.PageTokens))
        {
            return $"page tokens {geometry.PageTokens}: expected {string.Join(" or ", _pageTokens)}";
        }

        int bytes = Ask<int>(typeof(TensorAttend), nameof(TensorAttend.SharedBytes), Types(geometry, key, value, 8));
        return bytes <= MostShared
            ? null
            : $"{key} keys of head width {geometry.KeyWidth}: they would take {bytes} bytes of shared memory, expected {MostShared} at most";
    }

    /// <summary>The kernel for pages that have one.</summary>
    /// <param name="geometry">Widths and page tokens.</param>
    /// <param name="key">The format of the keys.</param>
    /// <param name="value">The format of the values.</param>
    /// <param name="queries">Queries of a block: 8 or 4.</param>
    /// <exception cref="NotSupportedException">There is none: see <see cref="Refusal"/>.</exception>
    public static TensorKernel Of(KvGeometry geometry, PageFormat key, PageFormat value, int queries)
    {
        if (Refusal(geometry, key, value) is { } refusal)
        {
            throw new NotSupportedException($"there is no kernel of tensor cores for {refusal}");
        }

        Type[] types = Types(geometry, key, value, queries);
        MethodInfo method = typeof(TensorAttend).GetMethod(nameof(TensorAttend.Split))!.MakeGenericMethod(types);
        string width = geometry.KeyWidth == geometry.ValueWidth ? $"{geometry.KeyWidth}" : $"{geometry.KeyWidth}x{geometry.ValueWidth}";
        string cap = geometry.LogitSoftCap is null ? string.Empty : "-cap";
        return new TensorKernel($"tensor{queries}-{key}-{value}-d{width}-p{geometry.PageTokens}{cap}", method, Ask<int>(typeof(TensorAttend), nameof(TensorAttend.Warps), types[^1]));
    }

    // What a kernel is closed over: key tiles, value tiles, columns and shape.
    private static Type[] Types(KvGeometry geometry, PageFormat key, PageFormat value, int queries)
    {
        (int keyWidth, int valueWidth) = (geometry.KeyWidth, geometry.ValueWidth);
        (Type keys, Type values) = (_keys[key], ValuesOf(value, valueWidth)!);
        var keyTiles = (IKeyTiles)Activator.CreateInstance(keys)!;
        var valueTiles = (IValueTiles)Activator.CreateInstance(values)!;
        int most = keyWidth > 128 ? MostWideTurns : MostTurns;
        Type shape = typeof(TensorShape<,,,,,,>).MakeGenericType(
            _numbers[keyWidth],
            _numbers[valueWidth],
            _numbers[geometry.PageTokens],
            geometry.LogitSoftCap is null ? typeof(NoLogitCap) : typeof(SoftLogitCap),
            keyTiles.Scales == Scaling.Gain && geometry.PageTokens >= 32 ? typeof(N4) : typeof(N2),
            Turns(Parts(keyWidth, keyTiles.Steps * keyTiles.StepElements), most),
            Turns(valueTiles.Loads(valueWidth), most));
        return [keys, values, queries == 8 ? typeof(EightQueries) : typeof(QuadQueries), shape];
    }

    /// <summary>The kernel for blocks of 64 queries, or null if pages have none: then the one for few queries takes them too.</summary>
    /// <param name="geometry">Widths and page tokens.</param>
    /// <param name="key">The format of the keys.</param>
    /// <param name="value">The format of the values.</param>
    /// <param name="precision">In how many parts queries and weights are entered.</param>
    /// <exception cref="NotSupportedException">There is no kernel at all: see <see cref="Refusal"/>.</exception>
    public static TensorKernel? Prefill(KvGeometry geometry, PageFormat key, PageFormat value, KvAttentionPrecision precision)
    {
        TensorKernel few = Of(geometry, key, value, 8);
        if (geometry.KeyWidth > 128 || geometry.ValueWidth > 128 || geometry.PageTokens != 64 || geometry.LogitSoftCap is not null)
        {
            return null;
        }

        Type[] types = Types(geometry, key, value, 8);
        types[2] = precision == KvAttentionPrecision.Fast ? typeof(FastQueries) : typeof(EightQueries);
        MethodInfo method = typeof(TensorPrefill).GetMethod(nameof(TensorPrefill.Split))!.MakeGenericMethod(types);
        string name = $"prefill-{(precision == KvAttentionPrecision.Fast ? "fast" : "exact")}{few.Name["tensor8".Length..]}";
        return Ask<bool>(typeof(TensorPrefill), nameof(TensorPrefill.Fits), types) ? new TensorKernel(name, method, TensorPrefill.Warps) { Groups = 2 } : null;
    }

    // What a method of a kernel says of its types.
    private static T Ask<T>([DynamicallyAccessedMembers(DynamicallyAccessedMemberTypes.PublicMethods)] Type kernel, string method, params Type[] types) => (T)kernel.GetMethod(method)!.MakeGenericMethod(types).Invoke(null, null)!;

    private static Type? ValuesOf(PageFormat format, int width) => _values.FirstOrDefault(v => v.Format == format && width % v.Multiple == 0).Tiles;

    private static int Parts(int width, int part) => (width + part - 1) / part;

    // A loop of a number of turns as a type: halves of halves, or the largest part of it that is not too much code, over and over.
    private static Type Turns(int count, int most)
    {
        int unrolled = Enumerable.Range(1, Math.Min(count, most)).Last(n => count % n == 0);
        return unrolled == count ? Unrolled(count) : typeof(Looped<,>).MakeGenericType(Unrolled(unrolled), typeof(CountOf<>).MakeGenericType(Unrolled(count / unrolled)));
    }

    private static Type Unrolled(int count) => count == 1 ? typeof(Once) : typeof(Both<,>).MakeGenericType(Unrolled(count / 2), Unrolled(count - (count / 2)));

    /// <summary>The number of turns of a loop.</summary>
    private readonly struct CountOf<TTurns> : INumber
        where TTurns : struct, ITurns
    {
        public int Value => default(TTurns).Count;
    }
}
