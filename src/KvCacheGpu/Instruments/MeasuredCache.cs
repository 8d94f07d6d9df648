using System.Numerics;

namespace KvCacheGpu;

/// <summary>A cache as instruments see it: its state, and the tags of what they read.</summary>
internal sealed class MeasuredCache
{
    public MeasuredCache(CacheState state, CacheTiers? tiers)
    {
        (State, Tiers) = (state, tiers);
        OnDevice = [.. Own, Tags.Of(Tags.Device, state.Device.Id)];
    }

    public CacheState State { get; }

    /// <summary>Its lower tiers; null without any.</summary>
    public CacheTiers? Tiers { get; }

    /// <summary>Tags of everything.</summary>
    public KeyValuePair<string, object?>[] Own => State.Counts.Own;

    /// <summary>The same, and the device.</summary>
    public KeyValuePair<string, object?>[] OnDevice { get; }

    /// <summary>True if its sequences and steps are counted: of a group's parts, which have the same ones, the first speaks for all.</summary>
    public bool CountsSequences => State.Options.Part == 0;

    /// <summary>Rows, (layer, KV head), of the whole model.</summary>
    public long Rows => State.Options.ModelRows ?? ((long)State.Geometry.Layers * State.Geometry.KvHeads);

    /// <summary>Reads the cache inside of the pool's gate; one that is being disposed is left out.</summary>
    public void Read<T>(Action<MeasuredCache, Readings<T>> read, Readings<T> to)
        where T : struct, INumber<T>
    {
        using (State.Pool.Gate.Enter())
        {
            if (!State.IsDisposed)
            {
                read(this, to);
            }
        }
    }
}
