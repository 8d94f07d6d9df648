using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Runtime;

namespace KvCacheGpu.Kernels;

/// <summary>
/// The host's copy of the tables, root and open leaves, and the words written since the device last heard of them. Callers hold the tier's lock.
/// </summary>
/// <remarks>
/// Patches of the root and of leaves go to the device together, in the order of the stream: before the next launch, and behind all that were enqueued.
/// What was noted of a leaf is forgotten when the leaf closes, since its slot may be something else by the time of the next launch.
/// </remarks>
internal sealed unsafe class TablePatches : IDisposable
{
    private const int MaxPending = 1 << 14;

    // Unit, word and value of each patch.
    private const int PatchWords = 3;

    // The owner of the root's words; those of a leaf are owned by the leaf's word in the directory.
    private const int Root = -1;

    private readonly DeviceLink _link;
    private readonly AllocationObserver? _observer;
    private readonly TableMap _map;
    private readonly long _rootBytes;
    private readonly MemoryBuffer1D<int, Stride1D.Dense> _device;
    private readonly ScatterLauncher _scatter;
    private readonly int _groupSize;
    private readonly (int Owner, int Word)[] _noted;
    private readonly int* _rootMarks;

    // By leaf of the directory: the copy of an open leaf's words, then its marks, then the number of its words that are noted.
    private readonly int** _leaves;
    private int _pending;

    public TablePatches(DeviceLink link, TableMap map, int groupSize, AllocationObserver? observer)
    {
        (_link, _map, _groupSize, _observer) = (link, map, groupSize, observer);
        int leaves = map.TableWords - map.Directory;
        _noted = new (int, int)[(int)Math.Min(map.TableWords + ((long)leaves * map.LeafTableWords), MaxPending)];
        _scatter = link.Accelerator.LoadKernel<ScatterLauncher>(PortableKernels.Scatter);
        _device = link.Allocate<int>(AllocationKind.Scratch, PatchWords * (long)_noted.Length);
        link.Staging.Hold(PatchWords * (long)_noted.Length);
        LeafHostBytes = HostBytesOf(map);

        // Pointers first: they want the alignment.
        long words = map.TableWords + (long)MarkWords(map.TableWords);
        _rootBytes = ((long)leaves * sizeof(int*)) + (words * sizeof(int));
        _leaves = (int**)NativeMemory.AllocZeroed((nuint)_rootBytes);
        Tables = (int*)(_leaves + leaves);
        _rootMarks = Tables + map.TableWords;
        observer?.Invoke(AllocationKind.Bookkeeping, _rootBytes);
    }

    /// <summary>The host's copy of the root.</summary>
    public int* Tables { get; private set; }

    /// <summary>Bytes of the host's copy of a leaf, with its notes.</summary>
    public long LeafHostBytes { get; }

    /// <summary>Bytes of the host's copy of one leaf, with its notes.</summary>
    public static long HostBytesOf(TableMap map) => (map.LeafTableWords + MarkWords(map.LeafTableWords) + 1L) * sizeof(int);

    /// <summary>Writes a word of the root here and notes it for the device.</summary>
    public void WriteRoot(int word, int value, ArrayView<int> arena)
    {
        if ((uint)word >= (uint)_map.TableWords)
        {
            throw new ArgumentOutOfRangeException(nameof(word), word, $"expected a table word of 0..{_map.TableWords - 1}");
        }

        Tables[word] = value;
        Note(Root, word, _rootMarks, arena);
    }

    /// <summary>Lists a leaf, and makes the host's copy of it.</summary>
    /// <param name="directoryWord">The leaf's word in the directory.</param>
    /// <param name="slot">Where it lies in the arena.</param>
    /// <param name="arena">The arena.</param>
    public int* Open(int directoryWord, int slot, ArrayView<int> arena)
    {
        var words = (int*)NativeMemory.AllocZeroed((nuint)LeafHostBytes);
        _observer?.Invoke(AllocationKind.Bookkeeping, LeafHostBytes);
        _leaves[directoryWord - _map.Directory] = words;
        WriteRoot(directoryWord, slot, arena);
        return words;
    }

    /// <summary>Takes an open leaf out of the directory, and forgets what was noted of it.</summary>
    public void Close(int directoryWord, ArrayView<int> arena)
    {
        int* words = _leaves[directoryWord - _map.Directory];
        if (*NotedOf(words) > 0)
        {
            int kept = 0;
            for (int i = 0; i < _pending; i++)
            {
                if (_noted[i].Owner != directoryWord)
                {
                    _noted[kept++] = _noted[i];
                }
            }

            _pending = kept;
        }

        Release(directoryWord - _map.Directory);
        WriteRoot(directoryWord, 0, arena);
    }

    /// <summary>Writes a word of an open leaf here and notes it for the device.</summary>
    public void WriteLeaf(int directoryWord, int word, int value, ArrayView<int> arena)
    {
        int* words = _leaves[directoryWord - _map.Directory];
        if ((uint)word >= (uint)_map.LeafTableWords)
        {
            throw new ArgumentOutOfRangeException(nameof(word), word, $"expected a leaf's word of 0..{_map.LeafTableWords - 1}");
        }

        words[word] = value;
        if (Note(directoryWord, word, words + _map.LeafTableWords, arena))
        {
            (*NotedOf(words))++;
        }
    }

    /// <summary>Brings the device's tables up to date: one copy and one launch, on the stream that is current.</summary>
    public void Flush(ArrayView<int> arena)
    {
        if (_pending == 0)
        {
            return;
        }

        Span<int> pinned = _link.Staging.Reserve(PatchWords * _pending);
        for (int i = 0; i < _pending; i++)
        {
            // The value at this moment, however often the word was written since it was noted.
            (int owner, int word) = _noted[i];
            int* words = owner == Root ? Tables : _leaves[owner - _map.Directory];
            int* marks = owner == Root ? _rootMarks : words + _map.LeafTableWords;
            pinned[i] = owner == Root ? 0 : Tables[owner];
            pinned[_pending + i] = word;
            pinned[(2 * _pending) + i] = words[word];
            marks[word >> 5] &= ~(1 << word);
            if (owner != Root)
            {
                *NotedOf(words) = 0;
            }
        }

        _link.Staging.Upload(_device.View.AsContiguous(), PatchWords * _pending);
        int groups = (_pending + _groupSize - 1) / _groupSize;
        _scatter(_link.Stream, new KernelConfig(groups, _groupSize), arena, _device.View.AsContiguous(), _pending);
        _pending = 0;
    }

    public void Dispose()
    {
        if (Tables != null)
        {
            for (int leaf = 0; leaf < _map.TableWords - _map.Directory; leaf++)
            {
                if (_leaves[leaf] != null)
                {
                    Release(leaf);
                }
            }

            NativeMemory.Free(_leaves);
            Tables = null;
            _observer?.Invoke(AllocationKind.Bookkeeping, -_rootBytes);
            _link.Release(AllocationKind.Scratch, _device);
        }
    }

    // Each word is noted once, so that no two threads of the scatter write the same one. Returns false if it was noted before, and for an accelerator that its
    // owner has disposed: no launch reads the tables any longer, and steps that end undo here what they wrote.
    private bool Note(int owner, int word, int* marks, ArrayView<int> arena)
    {
        if (_link.Accelerator.IsDisposed || (marks[word >> 5] & (1 << word)) != 0)
        {
            return false;
        }

        if (_pending == _noted.Length)
        {
            using DeviceBinding bound = _link.Bind();
            _link.Order.Use(_link.Accelerator.DefaultStream);
            Flush(arena);
        }

        marks[word >> 5] |= 1 << word;
        _noted[_pending++] = (owner, word);
        return true;
    }

    private void Release(int leaf)
    {
        NativeMemory.Free(_leaves[leaf]);
        _leaves[leaf] = null;
        _observer?.Invoke(AllocationKind.Bookkeeping, -LeafHostBytes);
    }

    private int* NotedOf(int* words) => words + _map.LeafTableWords + MarkWords(_map.LeafTableWords);

    private static int MarkWords(int words) => (words + 31) / 32;
}
