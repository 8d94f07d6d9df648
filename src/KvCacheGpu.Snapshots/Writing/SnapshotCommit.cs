using System.Buffers.Binary;

namespace KvCacheGpu;

/// <summary>
/// Writes one generation, so that at every moment the old one or the new one is there. Under the store's lock.
/// </summary>
/// <remarks>
/// <code>
/// each file:  temporary (made, never opened; 0600) -> write -> fsync -> read again and verify -> rename
/// order:      BLOCKS-n | MANIFEST-n | fsync directory | CURRENT | fsync directory: acknowledged | generations before n-1 deleted
/// A failure before CURRENT's rename undoes all. Where that rename reports an error, CURRENT and its temporary file tell what it did; if they
/// cannot be read, both generations stay and the outcome is unknown, as after a failure of the last fsync. fsync is never tried again: the
/// kernel forgets what it could not write.
/// </code>
/// </remarks>
internal sealed class SnapshotCommit(StoreFolder folder, StoreNames names, long generation)
{
    private readonly List<string> _made = [];

    /// <summary>Saves a content that was checked.</summary>
    public SnapshotManifest Save(SaveWork work, SnapshotOptions options)
    {
        try
        {
            byte[] random = new byte[16];
            options.FillRandom(random);
            UInt128 salt = BinaryPrimitives.ReadUInt128LittleEndian(random);
            Func<BlockCodec> codec = GenerationReader.CodecFor(names, generation, salt, options.Key is not null, options);
            SnapshotManifest manifest = work.ManifestFor(generation, salt, options.Key is not null);
            manifest = PutBlocks(work, manifest, codec, options);
            manifest = PutManifest(manifest, codec);
            folder.Directory.Sync();
            work.Cancel.ThrowIfCancellationRequested();
            byte[] current = new CurrentFile(generation, manifest.Hash).ToBytes();
            Write(names.Current, file => file.Write(current, 0), file => Compare(file, current, names.Current));
            folder.Directory.Replace(names.Current + StoreNames.Temporary, names.Current, current);
            return manifest;
        }
        catch (FileCallException error) when (error.OutcomeUnknown)
        {
            // CURRENT may name what was made: the next writer, who can read it, tidies up.
            throw;
        }
        catch
        {
            folder.Sweep(_made);
            throw;
        }
    }

    private SnapshotManifest PutBlocks(SaveWork work, SnapshotManifest manifest, Func<BlockCodec> codec, SnapshotOptions options)
    {
        string name = names.Blocks(generation);
        SnapshotManifest written = manifest;
        var header = new FileHeader(FileHeader.NewestVersion, FileKind.Blocks, manifest.IsEncrypted, generation, 0, manifest.Salt);
        Write(
            name,
            file =>
            {
                written = work.WriteBlocks(file, manifest, codec, options.Workers);
                file.Write((header with { Length = written.BlocksLength }).ToBytes(), 0);
            },
            file =>
            {
                FileHeader.ThrowIfBlocksDiffer(file, header with { Kind = FileKind.Manifest }, name);
                var reader = new BlockReader(file, written, codec, options.Workers);
                reader.Stream(0, written.Blocks.Count, (_, bytes) => work.Report(bytes.Length), work.Cancel);
            });
        Publish(name);
        return written;
    }

    private SnapshotManifest PutManifest(SnapshotManifest manifest, Func<BlockCodec> codec)
    {
        string name = names.Manifest(generation);
        using BlockCodec sealing = codec();
        byte[] bytes = ManifestFile.Write(manifest, sealing);
        Write(name, file => file.Write(bytes, 0), file => Compare(file, bytes, name));
        Publish(name);
        return manifest with { ManifestLength = bytes.Length, Hash = BinaryPrimitives.ReadUInt128LittleEndian(bytes.AsSpan(^ManifestFile.HashBytes..)) };
    }

    private void Write(string name, Action<OpenFile> write, Action<OpenFile> verify)
    {
        _made.Add(name + StoreNames.Temporary);
        using OpenFile file = folder.Directory.Open(name + StoreNames.Temporary, FileUse.Create);
        write(file);
        file.Sync();
        try
        {
            verify(file);
        }
        catch (KvCorruptionException error)
        {
            throw new KvPersistenceException($"file {name}, read again", error.Expected, error.Actual, error);
        }
    }

    private void Publish(string name)
    {
        _made.Add(name);
        folder.Directory.Files.Rename(folder.Directory.Descriptor, name + StoreNames.Temporary, name);
        _made.Remove(name + StoreNames.Temporary);
    }

    private static void Compare(OpenFile file, byte[] written, string name)
    {
        byte[] found = new byte[written.Length];
        file.Read(found, 0);
        if (file.Length != written.Length || !found.AsSpan().SequenceEqual(written))
        {
            throw new KvCorruptionException(name, "the bytes just written", "others");
        }
    }
}
