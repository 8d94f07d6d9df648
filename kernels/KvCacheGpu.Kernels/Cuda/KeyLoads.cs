using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>What a lane needs to read the keys of any page. Single words, not structs of words: ILGPU cannot convert those inside of this one on an accelerator.</summary>
internal struct KeysOfLane
{
    /// <summary>The lane's first two words of a page's first two tokens; of quads the first four of four.</summary>
    public int First;

    /// <summary>The bytes that codes are looked up in.</summary>
    public int LevelsX;
    public int LevelsY;

    /// <summary>What the sums of lowest limbs begin at: levels are whole numbers and a half, and the halves come to half of the sum of the query's whole numbers.</summary>
    public int StartA;
    public int StartB;
    public int StartC;
    public int StartD;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static KeysOfLane At<TKey, TColumns>(int first, ColumnState a, ColumnState b)
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
    {
        int zero = Lane.Zero();
        KeysOfLane lane = default;
        lane.First = first;
        lane.LevelsX = default(TKey).Levels.X + zero;
        lane.LevelsY = default(TKey).Levels.Y + zero;
        lane.StartA = a.HalfSum;
        lane.StartB = default(TColumns).Count == 8 ? b.HalfSum : zero;
        lane.StartC = lane.StartA + zero;
        lane.StartD = lane.StartB + zero;
        return lane;
    }
}

/// <summary>Where a lane's words of a chunk lie, and from one of its loads to the next.</summary>
internal struct KeyPlace
{
    public int At;
    public int More;
}

/// <summary>How lanes load keys.</summary>
internal static class KeyLoads
{
    private const MethodImplOptions Inlined = MethodImplOptions.AggressiveInlining;

    /// <summary>The lane's first word of a key; with a tail it depends on the chunk.</summary>
    [MethodImpl(Inlined)]
    public static int LaneWord<TKey, TShape>(int quad)
        where TKey : struct, IKeyTiles
        where TShape : struct, ITensorShape => HasTail<TKey, TShape>() ? 0 : default(TKey).LaneWords * quad;

    // True if some lanes have no words of the last chunk.
    private static bool HasTail<TKey, TShape>()
        where TKey : struct, IKeyTiles
        where TShape : struct, ITensorShape => default(TKey).Words(default(TShape).KeyWidth) % default(TKey).ChunkWords != 0;

    /// <summary>A lane's words of two tokens.</summary>
    [MethodImpl(Inlined)]
    public static KeyWords Load<TKey, TShape>(ArrayView<Words2> keys, int chunk, int tile)
        where TKey : struct, IKeyTiles
        where TShape : struct, ITensorShape
    {
        KeyPlace place = Place<TKey, TShape>(chunk, tile);
        KeyWords words = default;
        words.A = keys[place.At / 2];
        if (default(TKey).Loads > 1)
        {
            words.B = keys[(place.At + place.More) / 2];
        }

        if (default(TKey).Loads > 2)
        {
            words.C = keys[(place.At + (2 * place.More)) / 2];
        }

        return words;
    }

    /// <summary>Where a lane reads. Lanes behind the last word of a key read that one; their queries are zeros.</summary>
    [MethodImpl(Inlined)]
    public static KeyPlace Place<TKey, TShape>(int chunk, int tile)
        where TKey : struct, IKeyTiles
        where TShape : struct, ITensorShape
    {
        int word = chunk * default(TKey).ChunkWords;
        int more = default(TKey).LoadStride;
        if (HasTail<TKey, TShape>())
        {
            int last = default(TKey).Words(default(TShape).KeyWidth) - default(TKey).LaneWords;
            word += default(TKey).LaneWords * (Group.IdxX & 3);
            int second = default(TKey).LaneWords == 1 ? word + more : last;
            word = word < last ? word : last;
            more = default(TKey).LaneWords == 1 ? (second < last ? second : last) - word : more;
        }

        KeyPlace place = default;
        place.At = (word * default(TShape).PageTokens) + TokenOrder.ReadTile<TShape>(tile);
        place.More = more * default(TShape).PageTokens;
        return place;
    }
}
