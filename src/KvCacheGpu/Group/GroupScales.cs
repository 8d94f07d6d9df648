namespace KvCacheGpu;

/// <summary>Key scales of the parts of a group.</summary>
internal static class GroupScales
{
    /// <summary>Replaces the scales in every part, or in none.</summary>
    /// <param name="group">The group.</param>
    /// <param name="scales">The scales of the whole model, or null.</param>
    /// <inheritdoc cref="KvCacheGroup.ReplaceKeyScales" path="/exception"/>
    public static void Replace(KvCacheGroup group, KvKeyScales? scales)
    {
        KeyScaling?[] parts = Array.ConvertAll(group.Caches, cache => cache.State.Scaling);
        if (Array.TrueForAll(parts, scaling => scaling is null))
        {
            throw new KvUnsupportedException(nameof(KvCacheGroup.ReplaceKeyScales), "a group whose pages come into T formats", "other formats");
        }

        KvKeyScales?[] before = Array.ConvertAll(parts, scaling => scaling?.Current);
        int part = 0;
        try
        {
            for (; part < parts.Length; part++)
            {
                using (group.Caches[part].State.EnterLive())
                {
                    parts[part]?.Replace(scales is null ? null : group.Shape.PartOf(scales, part));
                }
            }
        }
        catch
        {
            while (part-- > 0)
            {
                using (group.Caches[part].State.Pool.Gate.Enter())
                {
                    if (!group.Caches[part].State.IsDisposed)
                    {
                        parts[part]?.Replace(before[part]);
                    }
                }
            }

            throw;
        }
    }
}
