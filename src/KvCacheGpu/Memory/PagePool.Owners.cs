namespace KvCacheGpu;

/// <content>Whose bytes slots still hold after they were freed: another owner must not see them.</content>
internal sealed unsafe partial class PagePool
{
    // Bytes as they came from the system, all zero.
    private const int NoOne = 0;
    private const int Several = -1;

    private readonly int* _owner;
    private readonly int* _slabOwner;

    /// <summary>Makes a live slot an owner's.</summary>
    /// <param name="slot">A slot that its taker has not written yet.</param>
    /// <param name="owner">Above 0.</param>
    /// <returns>Whether it holds bytes of someone else.</returns>
    public bool Claim(int slot, int owner)
    {
        ref int current = ref _owner[Index(slot)];
        int before = current;
        current = owner;
        return before != NoOne && before != owner;
    }

    // Slots of another size will lie across those of this one, so that the slab answers for all of them.
    private void LeaveToNextOwner(int slab)
    {
        int first = slab * _slabs.MostSlotsPerSlab;
        int count = _slabs.SlotsPerSlab[_size[slab]];
        for (int i = first; i < first + count; i++)
        {
            if (_owner[i] != NoOne && _owner[i] != _slabOwner[slab])
            {
                _slabOwner[slab] = _slabOwner[slab] == NoOne ? _owner[i] : Several;
            }
        }
    }

    private void InheritOwner(int slab)
    {
        int first = slab * _slabs.MostSlotsPerSlab;
        new Span<int>(_owner + first, _slabs.SlotsPerSlab[_size[slab]]).Fill(_slabOwner[slab]);
    }
}
