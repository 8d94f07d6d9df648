using System.Runtime.InteropServices;

namespace KvCacheGpu;

/// <summary>
/// The memory of numbered places, each allocated when its first block comes. Blocks have different lengths; a place that gets a block of the same length keeps its
/// memory. One thread at a time calls it.
/// </summary>
/// <param name="allocate">Memory of so many bytes.</param>
/// <param name="free">Gives memory back.</param>
internal sealed unsafe class HostMemory(Func<int, nint> allocate, Action<nint> free)
{
    // Rows of pages begin at cache lines, as they do in slots.
    private const int Alignment = 64;

    private readonly List<(nint Memory, int Bytes)> _places = [];

    /// <summary>Memory of the process.</summary>
    public static HostMemory Plain() =>
        new(bytes => (nint)NativeMemory.AlignedAlloc((nuint)bytes, Alignment), memory => NativeMemory.AlignedFree((void*)memory));

    /// <summary>The memory of a place that was taken.</summary>
    public nint At(int place) => _places[place].Memory;

    /// <summary>The memory of a place, of so many bytes. What lay there is gone.</summary>
    /// <exception cref="OutOfMemoryException">There is none; the place has none then.</exception>
    public nint Take(int place, int bytes)
    {
        while (_places.Count <= place)
        {
            _places.Add(default);
        }

        if (_places[place].Bytes != bytes)
        {
            Free(place);
            _places[place] = (allocate(bytes), bytes);
        }

        return At(place);
    }

    /// <summary>Frees the memory of a place, unless it has none or so many bytes.</summary>
    public void FreeUnless(int place, int bytes)
    {
        if (_places[place].Bytes != bytes)
        {
            Free(place);
        }
    }

    /// <summary>Frees the memory of a place, if it has any.</summary>
    public void Free(int place)
    {
        if (place < _places.Count && _places[place].Bytes > 0)
        {
            free(_places[place].Memory);
            _places[place] = default;
        }
    }

    /// <summary>Frees the memory of all places.</summary>
    public void FreeAll()
    {
        for (int place = 0; place < _places.Count; place++)
        {
            Free(place);
        }
    }
}
