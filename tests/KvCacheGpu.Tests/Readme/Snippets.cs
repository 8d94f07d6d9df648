#pragma warning disable IDE0005 // A reader copies the usings too.
// <quick-start>
using KvCacheGpu;
using KvCacheGpu.Kernels;

// </quick-start>
#pragma warning restore IDE0005
namespace KvCacheGpu.Tests.Readme;

/// <summary>The README's code, compiled and run. <see cref="ReadmeTests"/> holds the README to it, line by line.</summary>
internal static class Snippets
{
    public static int QuickStart(Model model, int[] tokenIds)
    {
        // <quick-start>
        var geometry = new KvGeometry(layers: 4, queryHeads: 4, kvHeads: 2, keyWidth: 64);
        using var cache = new KvCache(geometry, new KvCacheOptions { KeyFormat = PageFormat.I8, ValueFormat = PageFormat.I8 });
        using KvSequence sequence = cache.CreateSequence();
        using KvStep step = sequence.Begin(tokenIds);             // room in every layer, or nothing changes
        for (int layer = 0; layer < geometry.Layers; layer++)
        {
            step.Append(layer, model.Keys, model.Values);         // float or Half, [tokens][heads][width]
            step.Attend(layer, model.Queries, model.Output);      // causal, over the pages where they lie
        }
        step.Commit();                                            // or Dispose alone: no trace
        // </quick-start>
        return sequence.Length;
    }

    public static int ForkAndRollBack(KvSequence sequence)
    {
        // <sharing>
        using KvSequence fork = sequence.Fork();                  // shares every page; copies on write
        KvTruncation cut = fork.Truncate(sequence.Length - 2);    // exact; up to a page back nothing is encoded twice
        // </sharing>
        return cut.Length;
    }

    public static KvCacheOptions Budget()
    {
        // <budget>
        var config = new KvCacheOptions
        {
            MaxTokens = 32_768,
            MemoryBudgetPercent = 25,                             // of what a dense F16 cache of MaxTokens takes
            KeyFormat = PageFormat.I8,
            ValueFormat = PageFormat.I8,
            DemotionFormats = [new(PageFormat.T2, PageFormat.V2)],
            Policy = new AdaptivePolicy { SinkTokens = 4, WindowTokens = 256 },
        };
        // </budget>
        return config;
    }

    public static void Pinned(KvSequence sequence)
    {
        // <pins>
        sequence.Pin(start: 0, length: 16);                       // never goes, never shrinks
        sequence.MarkSegment();                                   // what follows is another segment: each keeps its share
        // </pins>
    }

    public static bool Formats(KvGeometry geometry, Action<KvSequence> read)
    {
        // <formats>
        var config = new KvCacheOptions
        {
            KeyFormat = PageFormat.T4,                            // 148 bytes a token and head of width 128, where F16 takes 520;
            ValueFormat = PageFormat.V4,                          // from 8 layers up, the two at each end stay in I8 (EdgeLayers)
            LayerFormats = new Dictionary<int, KvFormats> { [5] = new(PageFormat.I8, PageFormat.V4) },
            DemotionFormats = [new(PageFormat.T2, PageFormat.V2)],
        };
        using var cache = new KvCache(geometry, config);
        using KvSequence sequence = cache.CreateSequence();
        // </formats>
        read(sequence);
        // <demotion>
        bool done = sequence.Demote(layer: 5, head: 0, page: 0, new KvFormats(PageFormat.T2, PageFormat.V2));
        // </demotion>
        return done;
    }

    public static int Prefix(KvGeometry geometry, int[] promptIds)
    {
        // <prefix>
        using var cache = new KvCache(geometry, new KvCacheOptions { PrefixReuse = true });
        using KvSequence sequence = cache.CreateSequence(new KvSequenceOptions { Tenant = "acme" });
        int known = sequence.Reuse(promptIds);                    // tokens that this tenant computed before: no work for them
        // </prefix>
        return known;
    }

    public static async Task Engine(string path, float[] key, float[] value, float[] query, float[] output)
    {
        // <engine>
        var config = new KvCacheConfig
        {
            MaxTokens = 4096,
            Model = { NumHeads = 8, HeadDim = 64 },
            Persistence = { EnablePersistence = true, PersistencePath = path },
        };
        await using var engine = new UltraAdaptiveKvCacheEngine(config);
        engine.Put(position: 0, key, value, "chat");              // [KV heads][width]; the session is made
        engine.Forward(query, output, "chat");                    // attention over all that was put
        await engine.SaveAsync("evening", "chat");
        // </engine>
    }

    /// <summary>Stands for the model in the snippets.</summary>
    internal sealed record Model(float[] Keys, float[] Values, float[] Queries, float[] Output);
}
