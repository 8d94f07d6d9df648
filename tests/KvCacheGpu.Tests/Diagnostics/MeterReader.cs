using System.Collections.Concurrent;
using System.Diagnostics.Metrics;

namespace KvCacheGpu.Tests;

/// <summary>Listens to the meter of the caches, and tells what one cache, or one tier, reports: other tests run at the same time.</summary>
internal sealed class MeterReader : IDisposable
{
    private readonly MeterListener _listener = new();
    private readonly ConcurrentQueue<Reading> _readings = [];
    private readonly ConcurrentDictionary<string, Instrument> _instruments = [];
    private readonly string _own;

    /// <param name="own">Name of the cache.</param>
    /// <param name="only">The one instrument that is listened to; null: all.</param>
    public MeterReader(string own, string? only = null)
    {
        _own = own;
        _listener.InstrumentPublished = (instrument, listener) =>
        {
            if (instrument.Meter.Name == KvDiagnostics.MeterName && (only is null || instrument.Name == only))
            {
                _instruments[instrument.Name] = instrument;
                listener.EnableMeasurementEvents(instrument);
            }
        };
        _listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) => Note(instrument, value, tags));
        _listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) => Note(instrument, value, tags));
        _listener.Start();
    }

    /// <summary>The instruments that were published.</summary>
    public IReadOnlyCollection<Instrument> Instruments => [.. _instruments.Values];

    /// <summary>What was measured of the cache since the last reading, and what its observable instruments tell now.</summary>
    public IReadOnlyList<Reading> Read()
    {
        _listener.RecordObservableInstruments();
        var read = new List<Reading>();
        while (_readings.TryDequeue(out Reading? one))
        {
            read.Add(one);
        }

        return read;
    }

    /// <summary>What an instrument tells now, by its other tags: "state=open layout=f32/f32", in the order of their names, without their common beginning.</summary>
    public IReadOnlyDictionary<string, double> Of(string instrument) =>
        Read().Where(one => one.Instrument == instrument).ToDictionary(one => one.Text, one => one.Value);

    /// <summary>The one value of an instrument without other tags.</summary>
    public double One(string instrument) => Assert.Single(Read(), one => one.Instrument == instrument).Value;

    public void Dispose() => _listener.Dispose();

    private void Note(Instrument instrument, double value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        KeyValuePair<string, object?>[] all = tags.ToArray();
        if (Array.Exists(all, tag => tag.Key is "kvcache.name" or "kvcache.tier" && (string?)tag.Value == _own))
        {
            _readings.Enqueue(new Reading(instrument.Name, value, all));
        }
    }

    internal sealed record Reading(string Instrument, double Value, KeyValuePair<string, object?>[] Tags)
    {
        public string Text => string.Join(' ', Tags.Where(tag => tag.Key is not ("kvcache.name" or "kvcache.device"))
            .Select(tag => $"{tag.Key.Split('.')[^1]}={tag.Value}").Order(StringComparer.Ordinal));
    }
}
