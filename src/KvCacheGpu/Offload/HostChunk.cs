using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Host memory for pages of one size. Callers are inside of the room's lock.</summary>
/// <param name="number">Its number among the room's.</param>
/// <param name="block">The memory.</param>
/// <param name="units">Units of a page.</param>
/// <param name="sketchUnits">Units of a page's sketch.</param>
/// <param name="places">Pages.</param>
internal sealed class HostChunk(int number, HostBlock block, int units, int sketchUnits, int places)
{
    private readonly Stack<int> _free = new();
    private int _unused;

    /// <summary>Its number among the room's.</summary>
    public int Number => number;

    /// <summary>The memory.</summary>
    public HostBlock Block => block;

    /// <summary>Units of a page.</summary>
    public int Units => units;

    /// <summary>Units of a page's sketch, which follows its page.</summary>
    public int SketchUnits => sketchUnits;

    /// <summary>Its bytes.</summary>
    public long Bytes => (long)places * (units + sketchUnits) * PageLayout.UnitBytes;

    /// <summary>Pages that lie there.</summary>
    public int Live => _unused - _free.Count;

    /// <summary>True if every place is taken.</summary>
    public bool IsFull => Live == places;

    /// <summary>Takes a place; there is one.</summary>
    /// <param name="wasUsed">True if another page lay there.</param>
    public PagePlace Take(out bool wasUsed)
    {
        wasUsed = _free.TryPop(out int place);
        return new PagePlace(this, wasUsed ? place : _unused++);
    }

    /// <summary>Takes a place back.</summary>
    public void Give(PagePlace place)
    {
        _free.Push(place.Index);
        place.IsTaken = false;
    }
}

/// <summary>A page's place in host memory.</summary>
/// <param name="chunk">Where it is.</param>
/// <param name="index">Which of its places.</param>
internal sealed class PagePlace(HostChunk chunk, int index)
{
    /// <summary>Where it is.</summary>
    public HostChunk Chunk => chunk;

    /// <summary>Which of the chunk's places.</summary>
    public int Index => index;

    /// <summary>False once it was given back. Callers are inside of the room's lock.</summary>
    public bool IsTaken { get; set; } = true;

    /// <summary>The words of the page.</summary>
    public Span<int> Words => chunk.Block.Words(Unit, chunk.Units);

    /// <summary>The words of the sketch of its keys.</summary>
    public ReadOnlySpan<int> Sketch => chunk.Block.Words(SketchUnit, chunk.SketchUnits);

    /// <summary>The first unit of the sketch.</summary>
    public int SketchUnit => Unit + chunk.Units;

    private int Unit => index * (chunk.Units + chunk.SketchUnits);

    /// <summary>The way of the page to a slot or from it.</summary>
    public PageTransfer To(int slot) => new(slot, chunk.Block, Unit, chunk.Units);

    /// <summary>The sketch that is to be made of the page in a slot.</summary>
    public PageSketch SketchOf(int slot, int pageClass, int keyRow) => new(slot, pageClass, keyRow, chunk.Block, SketchUnit);
}
