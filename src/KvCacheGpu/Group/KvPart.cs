namespace KvCacheGpu;

/// <summary>One device's part of a model: some layers, and of these some KV heads. The parts of a <see cref="KvCacheGroup"/> tile layers x KV heads.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Device">The device's name, as <see cref="KvCacheOptions.Device"/> has it. Several parts may lie on one device.</param>
/// <param name="FirstLayer">First layer, counted over the whole model.</param>
/// <param name="Layers">Number of layers.</param>
/// <param name="Heads">The KV heads, counted over the whole model.</param>
public sealed record KvPart(string Device, int FirstLayer, int Layers, HeadRange Heads)
{
    /// <summary>Shards of the KV heads (tensor parallelism): each device holds all layers of some heads, as evenly as their number allows.</summary>
    /// <param name="geometry">The whole model's shape.</param>
    /// <param name="devices">The devices, one shard on each.</param>
    /// <exception cref="KvConfigurationException">E003: no device, or more than there are KV heads.</exception>
    public static IReadOnlyList<KvPart> ByHeads(KvGeometry geometry, params IReadOnlyList<string> devices) => ByLayersAndHeads(geometry, 1, devices);

    /// <summary>Layers split over devices (a pipeline): each device holds all KV heads of some consecutive layers, as evenly as their number allows.</summary>
    /// <param name="geometry">The whole model's shape.</param>
    /// <param name="devices">The devices, the first layers' first.</param>
    /// <exception cref="KvConfigurationException">E003: no device, or more than there are layers.</exception>
    public static IReadOnlyList<KvPart> ByLayers(KvGeometry geometry, params IReadOnlyList<string> devices)
    {
        ArgumentNullException.ThrowIfNull(devices);
        return ByLayersAndHeads(geometry, devices.Count, devices);
    }

    /// <summary>Layers split into stages, and the KV heads of each stage into shards.</summary>
    /// <param name="geometry">The whole model's shape.</param>
    /// <param name="stages">Stages of layers.</param>
    /// <param name="devices">A device for each shard, the first stage's first; a multiple of <paramref name="stages"/>.</param>
    /// <exception cref="KvConfigurationException">E003: the devices do not divide so, or there are more stages than layers or more shards than KV heads.</exception>
    public static IReadOnlyList<KvPart> ByLayersAndHeads(KvGeometry geometry, int stages, params IReadOnlyList<string> devices)
    {
        ArgumentNullException.ThrowIfNull(geometry);
        ArgumentNullException.ThrowIfNull(devices);
        if (devices.Count == 0 || stages < 1 || devices.Count % stages != 0 || stages > geometry.Layers || devices.Count / stages > geometry.KvHeads)
        {
            throw new KvConfigurationException(
                nameof(devices),
                $"layers cut into 1 to {geometry.Layers} runs, and for each run the same number of devices, 1 to {geometry.KvHeads}, one for each shard of its KV heads",
                $"{devices.Count} devices for layers cut into {stages}");
        }

        int shards = devices.Count / stages;
        var parts = new KvPart[devices.Count];
        for (int i = 0; i < parts.Length; i++)
        {
            (int stage, int shard) = Math.DivRem(i, shards);
            (int layer, int layers) = Share(geometry.Layers, stage, stages);
            (int head, int heads) = Share(geometry.KvHeads, shard, shards);
            parts[i] = new KvPart(devices[i], layer, layers, new HeadRange(geometry.Heads.Start + head, heads));
        }

        return parts;
    }

    /// <summary>The part as errors name it: "cuda:1: layers 0..15, KV heads 4..7".</summary>
    public override string ToString() => $"{Device}: layers {FirstLayer}..{FirstLayer + Layers - 1}, KV heads {Heads.Start}..{Heads.Start + Heads.Count - 1}";

    // As even as can be, the larger shares first.
    private static (int First, int Count) Share(int all, int place, int places)
    {
        (int least, int more) = Math.DivRem(all, places);
        return ((place * least) + Math.Min(place, more), least + (place < more ? 1 : 0));
    }
}
