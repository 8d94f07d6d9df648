using System.Numerics;
using ILGPU.Runtime;

namespace KvCacheGpu.Kernels;

/// <summary>Launches of attention that take about the same time: the same kernels, over about as many pages as often.</summary>
/// <param name="BlockQueries">Queries of a block.</param>
/// <param name="Classes">The page classes of the layer's forms of attention.</param>
/// <param name="Items">The (block, head)s, up to the next power of two.</param>
/// <param name="Segments">The segments of the longest row, or of a window, in the first variant, up to the next power of two: a graph's shape has the same number.</param>
internal readonly record struct SplitBucket(int BlockQueries, int Classes, int Items, int Segments)
{
    /// <summary>The bucket of numbers that are no powers of two.</summary>
    public static SplitBucket Of(int blockQueries, int classes, int items, int segments) =>
        new(blockQueries, classes, (int)BitOperations.RoundUpToPowerOf2((uint)items), (int)BitOperations.RoundUpToPowerOf2((uint)segments));
}

/// <summary>One launch: how it divides rows, and where its time began; 0 if it is not timed.</summary>
internal readonly record struct SplitTrial(int Variant, nint Start, SplitBucket Bucket);

/// <summary>
/// Chooses by measurement how attention divides rows of pages into segments: short ones fill a device that has little to do, long ones leave less to merge. The first launches of
/// a bucket take the variants in turns, each a few times, as they come: nothing is launched twice, and nothing waits. The variant whose best time is the least is taken from
/// then on. Until it is known, and wherever launches are captured, the first variant is, which is the one without measurement.
/// </summary>
/// <remarks>Every variant computes the same within the bound of a tier; the last bits differ. Callers hold the tier's lock.</remarks>
internal sealed class SplitChoice(IDeviceClock clock)
{
    /// <summary>Times that each variant is timed. The first may bring code to the device.</summary>
    public const int Rounds = 4;

    private readonly Dictionary<SplitBucket, Trials> _known = [];

    /// <summary>How a launch is to be divided.</summary>
    /// <param name="bucket">Its bucket.</param>
    /// <param name="variants">Variants that there are.</param>
    /// <param name="stream">The stream that it goes to; null if it is captured, and takes no time.</param>
    public SplitTrial Begin(SplitBucket bucket, int variants, AcceleratorStream? stream)
    {
        if (!_known.TryGetValue(bucket, out Trials? trials))
        {
            _known[bucket] = trials = new Trials(variants);
        }

        trials.Read(clock);
        return stream is null || trials.Next is not { } next ? new SplitTrial(trials.Chosen, 0, bucket) : new SplitTrial(next, clock.Mark(stream), bucket);
    }

    /// <summary>The launch was enqueued.</summary>
    public void End(SplitTrial trial, AcceleratorStream stream)
    {
        if (trial.Start != 0)
        {
            _known[trial.Bucket].Add(trial.Variant, trial.Start, clock.Mark(stream));
        }
    }

    /// <summary>The trials of a bucket.</summary>
    private sealed class Trials(int variants)
    {
        private readonly float[] _best = [.. Enumerable.Repeat(float.PositiveInfinity, variants)];
        private readonly Queue<(int Variant, nint Start, nint End)> _open = new();
        private int _begun;
        private int _read;

        /// <summary>The variant to be timed next; null once all were.</summary>
        public int? Next => _begun < Rounds * _best.Length ? _begun % _best.Length : null;

        /// <summary>The fastest; the first of those that are as fast, or until all times are known.</summary>
        public int Chosen => _read < Rounds * _best.Length ? 0 : Array.IndexOf(_best, _best.Min());

        public void Add(int variant, nint start, nint end)
        {
            _open.Enqueue((variant, start, end));
            _begun++;
        }

        public void Read(IDeviceClock clock)
        {
            while (_open.TryPeek(out (int Variant, nint Start, nint End) trial) && clock.Between(trial.Start, trial.End) is { } time)
            {
                _best[trial.Variant] = Math.Min(_best[trial.Variant], time);
                _open.Dequeue();
                _read++;
            }
        }
    }
}
