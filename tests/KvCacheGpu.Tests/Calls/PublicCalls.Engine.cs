namespace KvCacheGpu.Tests;

/// <content>An engine.</content>
internal static partial class PublicCalls
{
    private static IEnumerable<PublicCall> OfEngine() =>
    [
        new("UltraAdaptiveKvCacheEngine.get_Cache()", x => Assert.NotNull(x.Engine.Cache)),
        new("UltraAdaptiveKvCacheEngine.get_Config()", x => Assert.True(x.Engine.Config.Tenancy.MultiTenant)),
        new("UltraAdaptiveKvCacheEngine.get_Importers()", x => Assert.Empty(x.Engine.Importers)),
        new("UltraAdaptiveKvCacheEngine.set_Importers(IReadOnlyList)", x => x.Engine.GetType().GetProperty("Importers")!.SetValue(x.Engine, Array.Empty<ISnapshotImporter>())),
        new("UltraAdaptiveKvCacheEngine.get_Sessions()", x => Assert.InRange(x.Engine.Sessions.Count, 0, 4)),
        new("UltraAdaptiveKvCacheEngine.GetVersion()", x => Assert.NotEmpty(x.Engine.GetVersion())),
        new("UltraAdaptiveKvCacheEngine.GetSupportedFeatures()", x => Assert.NotEmpty(x.Engine.GetSupportedFeatures())),
        new("UltraAdaptiveKvCacheEngine.ValidateConfiguration()", x => Assert.Empty(x.Engine.ValidateConfiguration().Issues)),
        new("UltraAdaptiveKvCacheEngine.GetStats()", x => Assert.InRange(x.Engine.GetStats().Tokens, 0, 200), Gone),
        new("UltraAdaptiveKvCacheEngine.Apply(KvCacheConfig)", x => x.Engine.Apply(x.Engine.Config)),
        new("UltraAdaptiveKvCacheEngine.Put(Int32, ReadOnlySpan, ReadOnlySpan, KvSessionKey)", x => x.PutAt(x.NewPosition(), SharedObjects.NorthKey), Gone, NoRoom),
        new("UltraAdaptiveKvCacheEngine.TryGet(Int32, Span, Span, KvSessionKey)", x =>
        {
            float[] key = new float[32], value = new float[32];
            if (x.Engine.TryGet(4, key, value, SharedObjects.NorthKey))
            {
                x.Near(SharedObjects.ContentAt(4, SharedObjects.NorthKey).Keys, key, G.KeyWidth);
            }
        }, Gone),
        new("UltraAdaptiveKvCacheEngine.Get(Int32, KvSessionKey)", x =>
        {
            if (x.Engine.Get(8, SharedObjects.SouthKey) is { } found)
            {
                x.Near(SharedObjects.ContentAt(8, SharedObjects.SouthKey).Values, found.Value, G.ValueWidth);
            }
        }, Gone),
        new("UltraAdaptiveKvCacheEngine.Forward(ReadOnlySpan, Span, KvSessionKey)", x =>
        {
            float[] output = new float[64];
            x.Engine.Forward(Whole(TokenContent.Queries, 5), output, SharedObjects.NorthKey);
            Assert.All(output, number => Assert.InRange(number, -2.1f, 2.1f));
        }, Gone, NoSuch, NoRoom),
        new("UltraAdaptiveKvCacheEngine.Forward(ReadOnlySpan, ReadOnlySpan, ReadOnlySpan, Span, KvSessionKey)", x =>
        {
            // A session of its own: where the next position is, another thread says.
            KvSessionKey own = new(x.NewName(), SharedObjects.North);
            (float[] keys, float[] values) = SharedObjects.ContentAt(0, SharedObjects.NorthKey);
            int position = x.Engine.Forward(Whole(TokenContent.Queries, 5), keys, values, new float[64], own);
            Assert.Equal(0, position);
            _ = x.Engine.Clear(own);
        }, Gone, NoRoom),
        new("UltraAdaptiveKvCacheEngine.Clear(KvSessionKey)", x => _ = x.Engine.Clear(SharedObjects.NorthKey)),
        new("UltraAdaptiveKvCacheEngine.Clear()", x => x.Engine.Clear()),
        new("UltraAdaptiveKvCacheEngine.SaveAsync(String, KvSessionKey, CancellationToken)", x => x.Engine.SaveAsync("north", SharedObjects.NorthKey).GetAwaiter().GetResult(), Gone, NoSuch, typeof(KvStoreBusyException)),
        new("UltraAdaptiveKvCacheEngine.LoadAsync(String, KvSessionKey, CancellationToken)", x => x.Engine.LoadAsync("south", SharedObjects.SouthKey).GetAwaiter().GetResult(), Gone, NoRoom, NotFound),
        new("UltraAdaptiveKvCacheEngine.Dispose()", x => x.Engine.Dispose()),
        new("UltraAdaptiveKvCacheEngine.DisposeAsync()", x => x.Engine.DisposeAsync().AsTask().GetAwaiter().GetResult()),
    ];
}
