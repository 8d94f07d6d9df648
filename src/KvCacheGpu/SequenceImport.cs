namespace KvCacheGpu;

/// <summary>Sequences that something else has computed, on their way into a cache: they are appended step by step, as if the model had computed them.</summary>
internal sealed class SequenceImport(KvCache cache, ImportedCache found, string importer)
{
    private readonly List<KvSequence> _sequences = [];

    /// <summary>Appends everything, or leaves no sequence behind.</summary>
    public KvRestored Run(IProgress<SnapshotProgress>? progress, CancellationToken cancel)
    {
        Check();
        ThrowIfNoRoom();
        try
        {
            long all = found.Sequences.Sum(sequence => (long)sequence.Tokens);
            long done = 0;
            foreach (ImportedSequence imported in found.Sequences)
            {
                var sequence = new KvSequence(cache, cache.Life.Create(OptionsOf(imported), isHeld: true));
                _sequences.Add(sequence);
                sequence.State.Gate.Leave();
                (sequence.Name, sequence.Metadata) = (imported.Id, imported.Metadata);
                foreach (int tokens in Append(sequence, imported))
                {
                    cancel.ThrowIfCancellationRequested();
                    done += tokens;
                    progress?.Report(new SnapshotProgress(done, all));
                }
            }
        }
        catch
        {
            foreach (KvSequence sequence in _sequences)
            {
                sequence.Dispose();
            }

            throw;
        }

        // Now that all are whole: a save of all that live takes none before. A cache that is being disposed has no tables any longer.
        long pages;
        using (cache.State.EnterLive())
        {
            pages = _sequences.Sum(Pages);
            _sequences.ForEach(sequence => sequence.State.IsHandedOut = true);
        }

        return new KvRestored { ImportedBy = importer, Sequences = _sequences, ReencodedPages = pages, Notes = [.. Notes()] };
    }

    private IEnumerable<int> Append(KvSequence sequence, ImportedSequence imported)
    {
        int most = Math.Min(cache.State.Options.MaxBatchTokens, imported.Tokens);
        float[] keys = new float[most * found.KvHeads * found.KeyWidth];
        float[] values = new float[most * found.KvHeads * found.ValueWidth];
        int[] ids = new int[most];
        for (int first = 0; first < imported.Tokens; first += most)
        {
            int tokens = Math.Min(most, imported.Tokens - first);
            Span<int> chunk = ids.AsSpan(0, tokens);
            chunk.Fill(-1);
            if (!imported.TokenIds.IsEmpty)
            {
                imported.TokenIds.Span.Slice(first, tokens).CopyTo(chunk);
            }

            using KvStep step = sequence.Begin(chunk);
            Memory<float> k = keys.AsMemory(0, tokens * found.KvHeads * found.KeyWidth);
            Memory<float> v = values.AsMemory(0, tokens * found.KvHeads * found.ValueWidth);
            for (int layer = 0; layer < found.Layers; layer++)
            {
                imported.ReadLayer(layer, first, tokens, k.Span, v.Span);
                step.Append(layer, k.Span, v.Span);
            }

            Commit(step, imported.Id, first);
            yield return tokens;
        }
    }

    private static void Commit(KvStep step, string sequence, int first)
    {
        try
        {
            step.Commit();
        }
        catch (KvNonFiniteException error)
        {
            throw error.In(sequence, first);
        }
    }

    private void Check()
    {
        KvGeometry here = cache.Geometry;
        Require(found.Layers == here.Layers, "layers", here.Layers, found.Layers);
        Require(found.KvHeads == here.KvHeads, "KV heads", here.KvHeads, found.KvHeads);
        Require(found.KeyWidth == here.KeyWidth, "key width", here.KeyWidth, found.KeyWidth);
        Require(found.ValueWidth == here.ValueWidth, "value width", here.ValueWidth, found.ValueWidth);
        (string? own, string? other) = (cache.State.Options.ModelFingerprint, found.ModelFingerprint);
        Require(own is null || other is null || own == other, "model fingerprint", own, other);
        foreach (ImportedSequence sequence in found.Sequences)
        {
            bool isWhole = sequence.Tokens >= 1 && (sequence.TokenIds.IsEmpty || sequence.TokenIds.Length == sequence.Tokens);
            if (!isWhole)
            {
                throw new KvCorruptionException(
                    $"sequence '{sequence.Id}'", "at least 1 token, and an id for each or for none", $"{sequence.Tokens} tokens, {sequence.TokenIds.Length} ids");
            }
        }
    }

    // What can be known before the first step; a step that finds no room for its pages says what it lacked itself.
    private void ThrowIfNoRoom()
    {
        CacheState state = cache.State;
        cache.Life.ThrowIfNoRoomFor(found.Sequences.Count, "an import");
        if (found.Sequences.FirstOrDefault(sequence => sequence.Tokens > state.MaxSequenceTokens) is { } longest)
        {
            throw state.Counts.Refuse(new KvShortage($"sequence '{longest.Id}'", KvResource.SequenceTokens, longest.Tokens, state.MaxSequenceTokens));
        }

        using (state.EnterLive())
        {
            foreach (IGrouping<string?, ImportedSequence> own in found.Sequences.GroupBy(sequence => sequence.Tenant))
            {
                if (state.Tenants.Find(own.Key) is { } account
                    && TenantRoom.WhyNot(state, account, "an import", 0, own.Sum(sequence => (long)sequence.Tokens)) is { } shortage)
                {
                    throw state.Counts.Refuse(shortage);
                }
            }
        }
    }

    // Without ids, no other sequence may take it for a prefix: a salt that nobody knows keeps it apart.
    private static KvSequenceOptions OptionsOf(ImportedSequence imported) =>
        new() { Tenant = imported.Tenant, Salt = imported.TokenIds.IsEmpty ? $"{Guid.NewGuid()}" : null };

    private IEnumerable<string> Notes()
    {
        yield return $"a file that {importer} reads was appended anew";
        if (found.ModelFingerprint is null || cache.State.Options.ModelFingerprint is null)
        {
            yield return "the model was not compared: one of both does not say what it is";
        }

        if (found.Sequences.Any(sequence => sequence.TokenIds.IsEmpty))
        {
            yield return "the file holds no token ids: they read as -1";
        }

        foreach (string note in found.Notes)
        {
            yield return note;
        }
    }

    private static long Pages(KvSequence sequence) => Enumerable.Range(0, sequence.State.Table.Rows).Sum(row => (long)sequence.State.Table.Count(row));

    private static void Require<T>(bool holds, string what, T expected, T actual)
    {
        if (!holds)
        {
            throw new KvConfigurationException("file to import", $"a {what} of {expected}, as the cache has", $"{actual}");
        }
    }
}
