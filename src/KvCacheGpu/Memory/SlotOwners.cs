namespace KvCacheGpu;

/// <summary>Whose bytes slots still hold after they were freed: another owner must not see them.</summary>
/// <remarks>
/// <code>
/// int32[slabs * most slots per slab] owner of a slot's bytes | int32[slabs] owner of a free slab's bytes
/// 0: bytes as they came from the system, all zero | -1: several owners
/// </code>
/// </remarks>
internal sealed unsafe class SlotOwners(SlabShape slabs, int* memory, int slabCount)
{
    private const int NoOne = 0;
    private const int Several = -1;

    private readonly int* _owner = memory;
    private readonly int* _slabOwner = memory + ((long)slabCount * slabs.MostSlotsPerSlab);

    public static long Words(SlabShape slabs, long slabCount) => slabCount * (slabs.MostSlotsPerSlab + 1L);

    /// <summary>Makes a live slot an owner's.</summary>
    /// <param name="index">The slot's place in the pool's arrays; its taker has not written it yet.</param>
    /// <param name="owner">Above 0.</param>
    /// <returns>True if the slot holds bytes of someone else.</returns>
    public bool Claim(int index, int owner)
    {
        ref int current = ref _owner[index];
        int before = current;
        current = owner;
        return before != NoOne && before != owner;
    }

    /// <summary>Notes whose bytes a slab holds that is free from now on: slots of another size will lie across those of this one.</summary>
    public void LeaveToNext(int slab, int slots)
    {
        int first = slab * slabs.MostSlotsPerSlab;
        for (int i = first; i < first + slots; i++)
        {
            if (_owner[i] != NoOne && _owner[i] != _slabOwner[slab])
            {
                _slabOwner[slab] = _slabOwner[slab] == NoOne ? _owner[i] : Several;
            }
        }
    }

    /// <summary>Gives the slots of a slab that was opened the owner that the slab was left with.</summary>
    public void Inherit(int slab, int slots) => new Span<int>(_owner + ((long)slab * slabs.MostSlotsPerSlab), slots).Fill(_slabOwner[slab]);
}
