namespace KvCacheGpu.Configuration;

/// <summary>What a migration did, or a dry run would do.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Files">The files that change; empty where all is of the newest version.</param>
/// <param name="Warnings">What the user must know, one line each.</param>
/// <param name="Backup">The backup of the files as they were; null in a dry run, and where nothing changes.</param>
public sealed record KvConfigMigration(IReadOnlyList<KvMigratedFile> Files, IReadOnlyList<string> Warnings, KvConfigBackup? Backup);

/// <summary>A file that a migration changes.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Path">The file, relative to the root.</param>
/// <param name="From">Its version before.</param>
/// <param name="To">Its version after.</param>
/// <param name="Diff">The change as a unified diff. Of a .env file it shows this library's variables alone: other lines can hold passwords.</param>
public sealed record KvMigratedFile(string Path, KvConfigVersion From, KvConfigVersion To, string Diff);

/// <summary>A part of the configuration and its version.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Source">A file relative to the root, or "environment".</param>
/// <param name="Version">Its version; null where it is not there or says nothing of the cache.</param>
public sealed record KvConfigSource(string Source, KvConfigVersion? Version);
