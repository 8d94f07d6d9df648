using System.Globalization;

namespace KvCacheGpu;

/// <summary>
/// The parts of a sequence that a snapshot keeps among its metadata: pins, segments, salt, retention, how recently it was stepped. Keys of the
/// engine begin with "kvcache.".
/// </summary>
/// <remarks>
/// <code>
/// kvcache.pins         start,end,start,end,...     split over kvcache.pins, kvcache.pins.1, ... of 5,000 numbers each
/// kvcache.segments     start,start,...             the same
/// kvcache.retention    first,end or -1,priority,milliseconds or -1,...
/// kvcache.salt         as it is
/// kvcache.samples      steps that the masses sum up
/// kvcache.last-step    the cache's clock
/// kvcache.key-scales   a hexadecimal digit for each (layer, KV head, element of a key), split likewise into pieces of 50,000; none: scales of 1
/// kvcache.positions    0: tokens are known by their places | 1,first,tokens,first,tokens,...: runs of positions, of an engine's session, the same
///                      (version 0.1 has none: an engine's positions are its token ids)
/// </code>
/// </remarks>
internal static class SequenceStanding
{
    public const string Salt = Prefix + "salt";
    public const string Samples = Prefix + "samples";
    public const string LastStep = Prefix + "last-step";

    private const string Prefix = SnapshotSequence.EngineKeys;
    private const string Pins = Prefix + "pins";
    private const string Segments = Prefix + "segments";
    private const string Positions = Prefix + "positions";
    private const string Retention = Prefix + "retention";
    private const string KeyScales = Prefix + "key-scales";
    private const int DigitsOfPiece = 50_000;
    private const int NumbersOfPiece = 5000;
    private const int MostOfHost = 900;

    /// <summary>A copy of what a host may set.</summary>
    public static IReadOnlyDictionary<string, string> Checked(IReadOnlyDictionary<string, string> metadata)
    {
        ArgumentNullException.ThrowIfNull(metadata);
        if (metadata.Count > MostOfHost)
        {
            throw new ArgumentException($"expected at most {MostOfHost} pieces of metadata, got {metadata.Count}", nameof(metadata));
        }

        foreach ((string key, string value) in metadata)
        {
            SnapshotLimits.Checked(key, nameof(metadata));
            SnapshotLimits.Checked(value, nameof(metadata));
            if (key.StartsWith(Prefix, StringComparison.Ordinal))
            {
                throw new ArgumentException($"expected keys that do not begin with '{Prefix}', got '{key}'", nameof(metadata));
            }
        }

        return new Dictionary<string, string>(metadata);
    }

    /// <summary>The host's metadata and the engine's.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="scales">The scales that its T pages are under, or null.</param>
    public static Dictionary<string, string> Of(SequenceState sequence, KvKeyScales? scales)
    {
        var all = new Dictionary<string, string>(sequence.Metadata);
        Write(all, Pins, [.. sequence.Pins.Spans.SelectMany(span => (long[])[span.Start, span.End])]);
        long[] segments = new long[sequence.SegmentStarts.Length];
        for (int i = 0; i < segments.Length; i++)
        {
            segments[i] = sequence.SegmentStarts[i];
        }

        Write(all, Segments, segments);
        Write(all, Samples, [sequence.Scores?.Samples ?? 0]);
        Write(all, LastStep, [sequence.LastStep]);
        Write(all, Retention, [.. (sequence.Options.Retention ?? []).SelectMany(range =>
            (long[])[range.FirstToken, range.EndToken ?? -1, range.Priority, (long)(range.Duration?.TotalMilliseconds ?? -1)])]);
        if (sequence.PositionRuns is { } runs)
        {
            Write(all, Positions, [runs.Count == 0 ? 0 : 1, .. runs]);
        }

        if (scales is { IsNone: false })
        {
            SetScales(all, scales);
        }

        if (sequence.Options.Salt is { } salt)
        {
            all[Salt] = salt;
        }

        return all;
    }

    /// <summary>Whose a saved sequence was.</summary>
    public static KvSequenceOptions OptionsOf(SnapshotSequence saved)
    {
        long[] numbers = Read(saved, Retention);
        Require(saved, numbers.Length % 4 == 0, Retention);
        return new KvSequenceOptions
        {
            Tenant = saved.Tenant,
            Adapter = saved.Adapter,
            Salt = saved.Metadata.GetValueOrDefault(Salt),
            Retention = numbers.Length == 0 ? null : [.. numbers.Chunk(4).Select(n => new KvRetentionRange(
                Int(saved, n[0]), n[1] < 0 ? null : Int(saved, n[1]), Int(saved, n[2]), n[3] < 0 ? null : TimeSpan.FromMilliseconds(Int(saved, n[3]))))],
        };
    }

    /// <summary>Takes back all that was saved beside the pages: the sequence is new, and held.</summary>
    public static void Restore(SnapshotSequence saved, SequenceState sequence)
    {
        sequence.Table.Reach(saved.Length, saved.FirstOpenPage);
        sequence.SetTokenIds(saved.TokenIds.Span);
        foreach (long[] span in Read(saved, Pins).Chunk(2))
        {
            sequence.Pins.Add((int)span[0], (int)span[1]);
        }

        sequence.AddSegments(Read(saved, Segments).Select(start => (int)start));
        (sequence.Name, sequence.Metadata, sequence.PositionRuns) = (saved.Id, saved.HostMetadata, PositionRunsOf(saved));
    }

    /// <summary>Refuses what no sequence can have been, before anything is taken for it.</summary>
    public static void Check(SnapshotSequence saved)
    {
        long before = 0;
        long[] pins = Read(saved, Pins);
        Require(saved, pins.Length % 2 == 0, Pins);
        foreach (long[] span in pins.Chunk(2))
        {
            Require(saved, span[0] >= before && span[0] < span[1] && span[1] <= saved.Length, Pins);
            before = span[1];
        }

        before = 0;
        foreach (long start in Read(saved, Segments))
        {
            Require(saved, start > before && start <= saved.Length, Segments);
            before = start;
        }

        Require(saved, Number(saved, Samples) >= 0, Samples);
        Require(saved, PositionRunsOf(saved) is not { Length: > 0 } runs || TokenPositions.AreOf(runs, saved.Length), Positions);
    }

    /// <summary><see cref="SequenceState.PositionRuns"/> as they were saved; null where a snapshot does not say.</summary>
    public static long[]? PositionRunsOf(SnapshotSequence saved) => Read(saved, Positions) is [_, .. var runs] ? runs : null;

    /// <summary>Metadata with other key scales than they say; null stands for scales of 1.</summary>
    public static Dictionary<string, string> WithScales(IReadOnlyDictionary<string, string> metadata, KvKeyScales? scales)
    {
        var all = metadata.Where(pair => !pair.Key.StartsWith(KeyScales, StringComparison.Ordinal)).ToDictionary();
        if (scales is not null)
        {
            SetScales(all, scales);
        }

        return all;
    }

    private static void SetScales(Dictionary<string, string> all, KvKeyScales scales)
    {
        ReadOnlySpan<byte> exponents = scales.Exponents;
        for (int piece = 0; piece * DigitsOfPiece < exponents.Length; piece++)
        {
            ReadOnlySpan<byte> own = exponents[(piece * DigitsOfPiece)..Math.Min(exponents.Length, (piece + 1) * DigitsOfPiece)];
            all[PieceOf(KeyScales, piece)] = string.Create(own.Length, own, (digits, values) =>
            {
                for (int i = 0; i < digits.Length; i++)
                {
                    digits[i] = (char)(values[i] < 10 ? '0' + values[i] : 'a' + values[i] - 10);
                }
            });
        }
    }

    /// <summary>The scales that a saved sequence's T pages are under; null if they are all 1.</summary>
    /// <exception cref="KvCorruptionException">E004: they are not of the geometry.</exception>
    public static KvKeyScales? ScalesOf(SnapshotSequence saved, KvGeometry geometry)
    {
        var exponents = new List<byte>();
        long most = (long)geometry.Layers * geometry.KvHeads * geometry.KeyWidth;
        for (int piece = 0; saved.Metadata.TryGetValue(PieceOf(KeyScales, piece), out string? digits); piece++)
        {
            Require(saved, exponents.Count + (long)digits.Length <= most && digits.All(char.IsAsciiHexDigitLower), KeyScales);
            exponents.AddRange(digits.Select(digit => (byte)(char.IsAsciiDigit(digit) ? digit - '0' : digit - 'a' + 10)));
        }

        Require(saved, exponents.Count == 0 || exponents.Count == most, KeyScales);
        return exponents.Count == 0 ? null : new KvKeyScales(geometry, exponents.ToArray());
    }

    /// <summary>A single number, 0 where there is none.</summary>
    public static long Number(SnapshotSequence saved, string key) => Read(saved, key) is [var number, ..] ? number : 0;

    private static void Write(Dictionary<string, string> all, string key, long[] numbers)
    {
        int piece = 0;
        foreach (long[] part in numbers.Chunk(NumbersOfPiece))
        {
            all[PieceOf(key, piece)] = string.Join(',', part.Select(n => n.ToString(CultureInfo.InvariantCulture)));
            piece++;
        }
    }

    private static long[] Read(SnapshotSequence saved, string key)
    {
        var numbers = new List<long>();
        for (int piece = 0; saved.Metadata.TryGetValue(PieceOf(key, piece), out string? text); piece++)
        {
            // A file may hold pieces of more numbers than the engine puts into one, and many of them.
            Require(saved, text.AsSpan().Count(',') < NumbersOfPiece, key);
            foreach (Range part in text.AsSpan().Split(','))
            {
                Require(saved, long.TryParse(text.AsSpan()[part], NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long number), key);
                numbers.Add(number);
            }
        }

        return [.. numbers];
    }

    private static string PieceOf(string key, int piece) => piece == 0 ? key : $"{key}.{piece}";

    private static int Int(SnapshotSequence saved, long number)
    {
        Require(saved, number is >= 0 and <= int.MaxValue, Retention);
        return (int)number;
    }

    private static void Require(SnapshotSequence saved, bool holds, string key)
    {
        if (!holds)
        {
            throw new KvCorruptionException($"sequence '{saved.Id}'", $"numbers that the engine wrote under {key}", "others");
        }
    }
}
