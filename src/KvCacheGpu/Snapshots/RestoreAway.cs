using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>The pages of a restore that the device has no room for and that go to host memory, as they were saved. Their bytes there are taken when they are planned.</summary>
internal sealed class RestoreAway(CacheState cache)
{
    private readonly Dictionary<int, List<Entry>> _byOrdinal = [];
    private readonly Dictionary<int, PagePlace> _places = [];

    /// <summary>Plans a page, or says that it cannot lie there: it would have to be written anew, or there is no room.</summary>
    /// <param name="sequence">The sequence, by its place in the restore.</param>
    /// <param name="row">Row.</param>
    /// <param name="index">Page index.</param>
    /// <param name="ordinal">The saved page.</param>
    /// <param name="planned">What it would have become on the device.</param>
    public bool TryPlan(int sequence, int row, int index, int ordinal, in PlannedPage planned)
    {
        if (!planned.IsExact || !planned.IsSealed || cache.Offload is not { } offload)
        {
            return false;
        }

        bool isFirst = !_byOrdinal.TryGetValue(ordinal, out List<Entry>? entries);
        if (isFirst && offload.Room.TryTake(planned.Class, out PagePlace? place))
        {
            _byOrdinal.Add(ordinal, entries = []);
            _places.Add(ordinal, place);
        }

        // Sequences that share the page share it here too.
        bool fits = entries is not null && (isFirst || (entries[0].Index == index && entries[0].Planned.Class == planned.Class));
        if (fits)
        {
            entries!.Add(new Entry(sequence, row, index, planned));
        }

        return fits;
    }

    /// <summary>Keeps a saved page for every entry that was planned to be here.</summary>
    /// <param name="sequences">The sequences of the restore, held.</param>
    /// <param name="ordinal">The saved page.</param>
    /// <param name="saved">Its layout there.</param>
    /// <param name="words">The page, in the levels of today.</param>
    public void Write(IReadOnlyList<SequenceState> sequences, int ordinal, PageLayout saved, ReadOnlySpan<int> words)
    {
        if (!_byOrdinal.TryGetValue(ordinal, out List<Entry>? entries))
        {
            return;
        }

        RestoreCheck.Page(cache, saved, entries.Max(entry => entry.Planned.Tokens), words);
        PagePlace place = _places[ordinal];
        PlannedPage planned = entries[0].Planned;
        PageLayout layout = cache.Classes.Shape.Classes[planned.Class];
        words[..(layout.Bytes / sizeof(int))].CopyTo(place.Words);
        var page = new HostPage(entries[0].Index, planned.Class, planned.Encodings, place);
        Sketch(page, sequences[entries[0].Sequence].Table.KeyRow(entries[0].Row));
        _byOrdinal.Remove(ordinal);
        _places.Remove(ordinal);
        using (cache.Pool.Gate.Enter())
        {
            for (int i = 0; i < entries.Count; i++)
            {
                if (i > 0)
                {
                    page.Share();
                }

                sequences[entries[i].Sequence].Away!.Add(entries[i].Row, page);
            }
        }
    }

    /// <summary>Gives back the bytes of what was planned and not written.</summary>
    public void Abandon()
    {
        foreach ((int ordinal, PagePlace place) in _places)
        {
            cache.Offload!.Room.Give(place, _byOrdinal[ordinal][0].Planned.Class);
        }

        _places.Clear();
        _byOrdinal.Clear();
    }

    // A sketch is made of a page on the device: through the stage, as if an attention asked for it.
    private void Sketch(HostPage page, int keyRow)
    {
        PageStage stage = cache.Offload!.Stage;
        Span<int> slot = stackalloc int[1];
        using (stage.Gate.Enter())
        {
            stage.Begin();
            stage.Bring([page], slot);
            using (cache.DeviceGate.Enter())
            {
                cache.Tier.Transfers.Sketch([page.Place.SketchOf(slot[0], page.Class, keyRow)]);
            }
        }
    }

    private readonly record struct Entry(int Sequence, int Row, int Index, PlannedPage Planned);
}
