namespace KvCacheGpu.Kernels;

// Structs of scalars: ILGPU keeps their fields in registers, and would put an array into local memory.

/// <summary>Two words, loaded and stored at once.</summary>
internal struct Words2
{
    public int X;
    public int Y;
}

/// <summary>Four words, loaded and stored at once where a view has had them as its elements since the launch; an A operand of an mma.</summary>
internal struct Words4
{
    public int X;
    public int Y;
    public int Z;
    public int W;
}

/// <summary>Four numbers of a lane.</summary>
internal struct Floats4
{
    public float A;
    public float B;
    public float C;
    public float D;
}

/// <summary>
/// A lane's part of a tile of 16 rows and 8 columns. Lane 4 g + q has of row g the columns 2 q and 2 q + 1 (<see cref="A"/>, <see cref="B"/>), of row
/// g + 8 the same two (<see cref="C"/>, <see cref="D"/>).
/// </summary>
internal struct IntTile
{
    public int A;
    public int B;
    public int C;
    public int D;
}

/// <summary>A tile of sums that stays where mma instructions find it, from one to the next: nothing is copied in between.</summary>
internal struct RefTile<T>
    where T : unmanaged
{
    public ILGPU.Runtime.Cuda.Ref<T> A;
    public ILGPU.Runtime.Cuda.Ref<T> B;
    public ILGPU.Runtime.Cuda.Ref<T> C;
    public ILGPU.Runtime.Cuda.Ref<T> D;
}

/// <summary>Four words of an operand that stay where mma instructions find them.</summary>
internal struct InputWords
{
    public ILGPU.Runtime.Cuda.Input<int> X;
    public ILGPU.Runtime.Cuda.Input<int> Y;
    public ILGPU.Runtime.Cuda.Input<int> Z;
    public ILGPU.Runtime.Cuda.Input<int> W;
}

/// <summary>Four such tiles beside each other.</summary>
internal struct RefTiles<T>
    where T : unmanaged
{
    public RefTile<T> T0;
    public RefTile<T> T1;
    public RefTile<T> T2;
    public RefTile<T> T3;
}

/// <summary>Tiles of 64 tokens: token 16 i + 2 g is row g of tile i, token 16 i + 2 g + 1 its row g + 8.</summary>
internal struct Span64
{
    public Floats4 T0;
    public Floats4 T1;
    public Floats4 T2;
    public Floats4 T3;
}

/// <summary>A page that is read.</summary>
internal struct PagePlace
{
    public WordViews Arena;

    /// <summary>Its first word.</summary>
    public long First;

    public PageDims Map;
}

/// <summary>A page whose words are read from its own start on: offsets within a page are small, and one addition of theirs to an address is one instruction.</summary>
internal struct PageWords
{
    public WordViews Words;

    /// <summary>The first of the 64 tokens at hand.</summary>
    public int Span;

    public PageDims Map;

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.AggressiveInlining)]
    public static PageWords At(WordViews arena, int slot, PageDims map)
    {
        PageWords page = default;
        ILGPU.ArrayView<Unit> units = arena.Four.Cast<Unit>().SubView(slot);
        page.Words.One = units.Cast<int>();
        page.Words.Two = units.Cast<Words2>();
        page.Words.Four = units.Cast<Words4>();
        page.Map = map;
        return page;
    }
}

/// <summary>The pages' memory in words of three sizes: ILGPU makes a load of 64 or 128 bits only where the view's own element says that it is aligned.</summary>
internal struct WordViews(ILGPU.ArrayView<int> one, ILGPU.ArrayView<Words2> two, ILGPU.ArrayView<Words4> four)
{
    public ILGPU.ArrayView<int> One = one;
    public ILGPU.ArrayView<Words2> Two = two;
    public ILGPU.ArrayView<Words4> Four = four;
}

/// <summary>What slots count: <see cref="PageLayout.UnitWords"/> words.</summary>
internal struct Unit
{
    public Words4 A;
    public Words4 B;
    public Words4 C;
    public Words4 D;
}
