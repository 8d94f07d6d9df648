namespace KvCacheGpu.Cli;

/// <summary>The document of <c>kvcache db status --json</c>.</summary>
/// <param name="Database">The address, without user and password.</param>
/// <param name="Version">The schema's version; 0 without tables.</param>
/// <param name="Newest">The newest version that this build knows.</param>
/// <param name="Recorded">Whether the database records it; otherwise its columns tell.</param>
/// <param name="Differences">What was altered by hand.</param>
internal sealed record DbStatusReport(string Database, int Version, int Newest, bool Recorded, IReadOnlyList<string> Differences);

/// <summary>The document of <c>kvcache db migrate</c> and <c>rollback</c> under --json.</summary>
internal sealed record DbStepsReport(string Database, bool DryRun, int From, int Version, IReadOnlyList<DbStepReport> Steps);

/// <summary>A step that ran, or would.</summary>
/// <param name="Version">The version that it leads to, or from.</param>
/// <param name="Direction">"up" or "down".</param>
/// <param name="Checksum">SHA-256 of its SQL.</param>
/// <param name="Note">What it takes away, and where that is kept.</param>
/// <param name="Sql">Its statements, in a dry run.</param>
internal sealed record DbStepReport(int Version, string Direction, string Checksum, string? Note, IReadOnlyList<string> Sql);
