using KvCacheGpu.Hosting;
using Microsoft.Extensions.DependencyInjection;

namespace KvCacheGpu.Samples;

/// <summary>What a request does: rents the session of its tenant, lets the model read the new tokens, and gives the session back.</summary>
internal sealed class Conversation([FromKeyedServices("chat")] IKvSessions sessions)
{
    public async Task<int[]> SayAsync(string tenant, string id, int[] tokens, CancellationToken cancel = default)
    {
        await using KvSessionLease lease = await sessions.RentAsync(tenant, id, cancel);
        Read(lease.Sequence, tokens);
        return lease.Sequence.TokenIds.ToArray();
    }

    // A model would compute these numbers.
    private static void Read(KvSequence sequence, int[] tokens)
    {
        KvGeometry model = sequence.Cache.Geometry;
        float[] keys = new float[tokens.Length * model.KvHeads * model.KeyWidth];
        float[] queries = new float[tokens.Length * model.QueryHeads * model.KeyWidth];
        float[] output = new float[tokens.Length * model.QueryHeads * model.ValueWidth];
        using KvStep step = sequence.Begin(tokens);
        for (int layer = 0; layer < model.Layers; layer++)
        {
            step.Append(layer, keys, keys);
            step.Attend(layer, queries, output);
        }

        step.Commit();
    }
}
