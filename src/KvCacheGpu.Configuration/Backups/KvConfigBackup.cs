using System.Globalization;

namespace KvCacheGpu.Configuration;

/// <summary>A backup of the configuration's files, as listed. Its text is one line for people.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Id">Its name, made of the UTC time.</param>
/// <param name="Created">When it was made, UTC.</param>
/// <param name="Version">The oldest version among its files: "1.x", "2.0" or "2.1"; "none" where they say nothing; "unknown" where they could not be read.</param>
/// <param name="Files">Its files, relative to the root.</param>
/// <param name="Reason">What it was made for.</param>
/// <param name="Flaw">What is wrong with it, so that it is not restored; null where its hashes hold.</param>
public sealed record KvConfigBackup(string Id, DateTimeOffset Created, string Version, IReadOnlyList<string> Files, string Reason, string? Flaw = null)
{
    /// <inheritdoc/>
    public override string ToString() => Flaw is null
        ? string.Create(CultureInfo.InvariantCulture, $"{Id}  {Created:yyyy-MM-dd HH:mm:ss} UTC  version {Version}  {Reason}  ({string.Join(", ", Files)})")
        : $"{Id}  damaged: {Flaw}";
}
