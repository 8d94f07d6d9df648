namespace KvCacheGpu.Tests;

/// <summary>Keys, values and queries as a function of the token id: what was stored can always be told from what should be.</summary>
internal static class TokenContent
{
    public static float[] Keys(KvGeometry geometry, int layer, ReadOnlySpan<int> ids) => Fill(ids, geometry.KvHeads, geometry.KeyWidth, layer, 1);

    public static float[] Values(KvGeometry geometry, int layer, ReadOnlySpan<int> ids) => Fill(ids, geometry.KvHeads, geometry.ValueWidth, layer, 2);

    public static float[] Queries(KvGeometry geometry, int layer, ReadOnlySpan<int> ids) => Fill(ids, geometry.QueryHeads, geometry.KeyWidth, layer, 3);

    private static float[] Fill(ReadOnlySpan<int> ids, int heads, int width, int layer, uint part)
    {
        var result = new float[ids.Length * heads * width];
        for (int i = 0; i < result.Length; i++)
        {
            int token = i / (heads * width);
            uint hash = ((uint)ids[token] * 0x9E3779B1) ^ ((uint)layer * 0x85EBCA77) ^ ((uint)(i % (heads * width)) * 0xC2B2AE3D) ^ (part * 0x27D4EB2F);
            hash = (hash ^ (hash >> 15)) * 0x2C1B3C6D;
            hash = (hash ^ (hash >> 12)) * 0x297A2D39;

            // Multiples of 1/256 within -2..2: exact in every full-precision format.
            result[i] = ((int)((hash ^ (hash >> 15)) % 1025) - 512) / 256f;
        }

        return result;
    }
}
