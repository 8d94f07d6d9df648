using Microsoft.Extensions.Options;

namespace KvCacheGpu.Hosting;

/// <summary>Checks the options of a cache before it is made, as far as that needs no device; a failure is the text of the error that the cache itself would give.</summary>
internal sealed class HostOptionsCheck(string name) : IValidateOptions<KvCacheHostOptions>
{
    /// <inheritdoc/>
    public ValidateOptionsResult Validate(string? optionsName, KvCacheHostOptions options)
    {
        if (optionsName != name)
        {
            return ValidateOptionsResult.Skip;
        }

        try
        {
            (KvGeometry geometry, KvCacheOptions own) = options.Resolve(name);
            Require(options.Tiers.All(tier => tier.Bytes >= 1), nameof(options.Tiers), "at least 1 byte each", "fewer");
            Require(options.Tiers.All(tier => tier.Directory is null or { Length: > 0 }), nameof(options.Tiers), "a folder's path", "an empty text");
            own.Tiers = [.. own.Tiers, .. options.Tiers.Select(_ => new UnopenedTier())];
            _ = KvCache.LayoutsFor(geometry, own);
            Require(options.DegradedAbove is > 0 and <= 1, nameof(options.DegradedAbove), "above 0, at most 1", options.DegradedAbove);
            Require(options.Sessions.IdleAfter is null || options.Sessions.IdleAfter > TimeSpan.Zero, "Sessions.IdleAfter", "above 0", options.Sessions.IdleAfter);
            Require(options.Sessions.Directory is null or { Length: > 0 }, "Sessions.Directory", "a folder's path", "an empty text");
            return ValidateOptionsResult.Success;
        }
        catch (KvConfigurationException e)
        {
            return ValidateOptionsResult.Fail($"{(name.Length > 0 ? $"cache '{name}': " : string.Empty)}{e.Message}");
        }
    }

    private static void Require(bool holds, string setting, string expected, object? actual)
    {
        if (!holds)
        {
            throw new KvConfigurationException(setting, expected, $"{actual}");
        }
    }

    // Stands for a tier that is opened with the cache: what options need because of tiers is checked before.
    private sealed class UnopenedTier : KvTier
    {
        public override string Name => "unopened";

        public override long? BytesInUse => null;

        public override long? BytesLimit => null;

        protected override ValueTask<int> ReadBlocksAsync(ReadOnlyMemory<BlockHash> keys, Memory<byte> blocks, CancellationToken cancellationToken) => ValueTask.FromResult(0);

        protected override ValueTask<int> WriteBlocksAsync(ReadOnlyMemory<BlockHash> keys, ReadOnlyMemory<byte> blocks, CancellationToken cancellationToken) => ValueTask.FromResult(0);
    }
}
