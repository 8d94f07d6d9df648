using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Options;
using Microsoft.Extensions.Primitives;

namespace KvCacheGpu.Hosting;

/// <summary>
/// Binds the options of one cache to a section, and tells options monitors when that has changed to something that can be used: an error in a file that was edited must not come out of the thread that watches it.
/// </summary>
/// <param name="name">The cache's name.</param>
/// <param name="section">The section.</param>
#pragma warning disable CA1001 // A source of tokens without a timer need not be disposed, and services that are built twice from one collection share the binding.
internal sealed class SectionBinding(string name, IConfiguration section) : IConfigureNamedOptions<KvCacheHostOptions>, IOptionsChangeTokenSource<KvCacheHostOptions>
#pragma warning restore CA1001
{
    private CancellationTokenSource _changed = new();

    /// <inheritdoc/>
    public string Name => name;

    /// <inheritdoc/>
    public IChangeToken GetChangeToken() => new CancellationChangeToken(Volatile.Read(ref _changed).Token);

    /// <inheritdoc/>
    public void Configure(KvCacheHostOptions options) => Configure(Options.DefaultName, options);

    /// <inheritdoc/>
    public void Configure(string? optionsName, KvCacheHostOptions options)
    {
        if (optionsName == name)
        {
            SettingValue.Read(section, CacheBinding.Takers(options));
        }
    }

    /// <summary>Watches the section until the result is disposed.</summary>
    /// <param name="isUsable">Called when it has changed; false if the change is to have no effect.</param>
    public IDisposable Watch(Func<bool> isUsable) => ChangeToken.OnChange(section.GetReloadToken, () =>
    {
        if (isUsable())
        {
            // Who asks for a token from here on waits for the next change.
            Interlocked.Exchange(ref _changed, new CancellationTokenSource()).Cancel();
        }
    });
}
