using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;
using Half = System.Half;

namespace KvCacheGpu.TestKit;

/// <summary>Append and attend, one vector after the other; softmax page by page in double.</summary>
internal sealed unsafe partial class ReferenceBatch : KernelBatch
{
    private readonly ReferenceTier _tier;
    private readonly KvGeometry _geometry;
    private readonly RaggedSequence[] _sequences;
    private readonly int _maxTokens;
    private readonly float[] _query;
    private readonly double[] _plainQuery;
    private double[] _rotatedQuery;
    private double[] _scaledQuery;
    private readonly float[] _vector;
    private readonly double[] _plain;
    private readonly double[] _rotated;
    private readonly double[] _logits;
    private readonly float[] _output;
    private int _count;
    private readonly int[] _windows;
    private int _attended = -1;
    private readonly List<bool> _kept = [];
    private NonFinite? _refused;
    private bool _disposed;

    public ReferenceBatch(ReferenceTier tier, int maxSequences, int maxTokens)
    {
        (_tier, _geometry, _maxTokens) = (tier, tier.Shape.Geometry, maxTokens);
        _sequences = new RaggedSequence[maxSequences];
        _query = new float[_geometry.KeyWidth];
        (_plainQuery, _rotatedQuery, _scaledQuery) = (new double[_geometry.KeyWidth], new double[_geometry.KeyWidth], new double[_geometry.KeyWidth]);
        _vector = new float[Math.Max(_geometry.KeyWidth, _geometry.ValueWidth)];
        (_plain, _rotated, _output) = (new double[_geometry.ValueWidth], new double[_geometry.ValueWidth], new float[_geometry.ValueWidth]);
        _windows = new int[_geometry.Layers];
        _logits = new double[_geometry.PageTokens];
        tier.Observe(AllocationKind.Scratch, ScratchBytes);
    }

    /// <inheritdoc/>
    public override long ScratchBytes =>
        (4L * (_query.Length + _vector.Length + _output.Length))
        + (8L * (_plainQuery.Length + _rotatedQuery.Length + _scaledQuery.Length + _plain.Length + _rotated.Length + _logits.Length))
        + (4L * _windows.Length) + ((long)sizeof(RaggedSequence) * _sequences.Length);

    /// <inheritdoc/>
    public override void Begin(ReadOnlySpan<RaggedSequence> sequences, KvStream stream = default)
    {
        _kept.Clear();
        ArgumentOutOfRangeException.ThrowIfGreaterThan(sequences.Length, _sequences.Length, nameof(sequences));
        foreach (RaggedSequence s in sequences)
        {
            ArgumentOutOfRangeException.ThrowIfGreaterThan((s.Length - 1) / _geometry.PageTokens, _tier.Shape.TableCapacity - 1, nameof(sequences));
        }

        sequences.CopyTo(_sequences);
        _count = sequences.Length;
        _refused = null;
        Array.Clear(_windows);
        _attended = -1;
        ArgumentOutOfRangeException.ThrowIfGreaterThan(Tokens(), _maxTokens, nameof(sequences));
    }

    /// <inheritdoc/>
    public override void Append(int layer, KvTensor keys, KvTensor values)
    {
        ThrowIfOnDevice(keys.IsOnDevice || values.IsOnDevice);
        keys.ThrowIfNotShaped(Tokens(), _geometry.KvHeads, _geometry.KeyWidth, nameof(keys));
        values.ThrowIfNotShaped(Tokens(), _geometry.KvHeads, _geometry.ValueWidth, nameof(values));
        Span<float> key = _vector.AsSpan(0, _geometry.KeyWidth);
        Span<float> value = _vector.AsSpan(0, _geometry.ValueWidth);
        foreach (ref readonly RaggedSequence s in _sequences.AsSpan(0, _count))
        {
            for (int i = 0; i < s.Tokens; i++)
            {
                int position = s.Length - s.Tokens + i;
                for (int head = 0; head < _geometry.KvHeads; head++)
                {
                    int slot = SlotOf(s, _tier.Map.Row(layer, head), position / _geometry.PageTokens);
                    int token = position % _geometry.PageTokens;
                    if (token == 0 && _tier.Shape.HasStatistics)
                    {
                        int* scores = _tier.Scores(s.Sequence, _tier.Map.Row(layer, head), position / _geometry.PageTokens);
                        new Span<int>(scores, TableMap.ScoreWords).Clear();
                    }

                    Copy(keys, s.FirstToken + i, head, _geometry.KvHeads, key);
                    Note(Held(key, _tier.Shape.KeyRefusedFrom), new NonFinite(layer, s.FirstToken + i, head, false));
                    _tier.Keys(slot, KernelShape.Open).Write(token, key);
                    Copy(values, s.FirstToken + i, head, _geometry.KvHeads, value);
                    Note(Held(value, _tier.Shape.ValueRefusedFrom), new NonFinite(layer, s.FirstToken + i, head, true));
                    _tier.Values(slot, KernelShape.Open).Write(token, value);
                }
            }
        }
    }

    private static bool Held(ReadOnlySpan<float> vector, uint refusedFrom)
    {
        foreach (float x in vector)
        {
            if ((BitConverter.SingleToUInt32Bits(x) & 0x7FFFFFFF) >= refusedFrom)
            {
                return false;
            }
        }

        return true;
    }

    /// <inheritdoc/>
    public override void Attend(int layer, KvTensor queries, KvOutput output, int window = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(window);
        (int heads, int width) = (_geometry.QueryHeads, _geometry.ValueWidth);
        queries.ThrowIfNotShaped(Tokens(), heads, _geometry.KeyWidth, nameof(queries));
        ThrowIfOnDevice(queries.IsOnDevice || output.IsOnDevice);
        output = output.First(Tokens() * heads, width);
        foreach (ref readonly RaggedSequence s in _sequences.AsSpan(0, _count))
        {
            for (int i = 0; i < s.Tokens; i++)
            {
                for (int head = 0; head < heads; head++)
                {
                    bool isMeasured = i == s.Tokens - 1 && !s.KeepsStatistics && _tier.Shape.HasStatistics;
                    Copy(queries, s.FirstToken + i, head, heads, _query);
                    int at = ((s.FirstToken + i) * heads) + head;
                    _tier.AddQuery(layer, head, _query);
                    float lse = AttendOne(s, layer, head, s.Length - s.Tokens + i, isMeasured, window);
                    output.Put(at, _output);
                    if (output.HasLogSumExp)
                    {
                        output.HostLogSumExp[at] = lse;
                    }
                }
            }
        }

        (_attended, _windows[layer]) = (layer, window == 0 ? int.MaxValue : window);
    }

    /// <inheritdoc/>
    public override void Seal(ReadOnlySpan<PageMove> moves)
    {
        bool[] kept = new bool[moves.Length];
        _tier.Transcode(moves, kept);
        _kept.AddRange(kept);
    }

    public override void Finish()
    {
        // All of it was done when it was asked for.
    }

    public override bool HasFinished => true;

    public override bool IsKept(int move) => _kept[move];

    public override void Materialize(ReadOnlySpan<PageRead> reads, KvOutput keys, KvOutput values) => _tier.Materialize(reads, keys, values);

    internal static void ThrowIfOnDevice(bool isOnDevice)
    {
        if (isOnDevice)
        {
            throw new NotSupportedException("the reference tier works in host memory");
        }
    }

    /// <inheritdoc/>
    public override NonFinite? End()
    {
        NonFinite? refused = _refused;
        _refused = null;
        return refused;
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        if (!_disposed)
        {
            _disposed = true;
            _tier.Observe(AllocationKind.Scratch, -ScratchBytes);
        }
    }

    private float AttendOne(in RaggedSequence batched, int layer, int head, int position, bool isMeasured, int window)
    {
        int sequence = batched.Sequence;
        (int kvHead, int member) = Math.DivRem(head, _geometry.GroupSize);
        int row = _tier.Map.Row(layer, kvHead);
        PrepareQuery(_tier.Exponents(_tier.KeyRow(batched.KeyTable, row)));
        Array.Clear(_plain);
        Array.Clear(_rotated);
        (double largest, double total) = (double.NegativeInfinity, 0);
        for (int entry = 0; entry < _tier.Count(sequence, row); entry++)
        {
            int slot = _tier.SlotOf(sequence, row, entry);
            int tag = _tier.TagOf(sequence, row, entry);
            ThrowIfForeign(layer, TableMap.ClassOf(tag));
            int first = TableMap.PageIndexOf(tag) * _geometry.PageTokens;
            int count = Math.Clamp(position - first + 1, 0, _geometry.PageTokens);
            int from = window == 0 ? 0 : Math.Clamp(position - window + 1 - first, 0, count);
            double pageLargest = Logits(_tier.Keys(slot, TableMap.ClassOf(tag)), from, count);
            double rise = Math.Max(largest, pageLargest);
            double shrink = largest == rise ? 1 : Math.Exp(largest - rise);
            total = (total * shrink) + AddValues(_tier.Values(slot, TableMap.ClassOf(tag)), from, count, rise, shrink);
            largest = rise;
            if (isMeasured)
            {
                WriteStatistic(_tier.Statistics(sequence, row, TableMap.PageIndexOf(tag)) + (2 * member), pageLargest, from, count);
            }
        }

        float lse = Stored(largest + Math.Log(total));
        if (isMeasured)
        {
            ((float*)_tier.Arena)[_tier.Map.LogSumExpWord(sequence, row, member)] = lse;
        }

        for (int e = 0; e < _output.Length; e++)
        {
            _output[e] = (float)(_rotated[e] / total);
        }

        Rotation.Undo(_output, _tier.ValueSigns);
        for (int e = 0; e < _output.Length; e++)
        {
            _output[e] += (float)(_plain[e] / total);
        }

        return lse;
    }

    private void PrepareQuery(byte[] exponents)
    {
        double scale = _geometry.AttentionScale;
        for (int e = 0; e < _query.Length; e++)
        {
            _plainQuery[e] = _query[e] * scale;
        }

        _rotatedQuery = HadamardMatrix.Apply(_plainQuery, _tier.KeySigns);
        _scaledQuery = HadamardMatrix.Apply([.. _plainQuery.Select((x, e) => x / (1 << exponents[e]))], _tier.KeySigns);
    }

    // Logits of a page's tokens from..count; returns the largest.
    private double Logits(ReferencePart keys, int from, int count)
    {
        double[] query = keys.Format.IsCentered() ? _scaledQuery : keys.Format.IsRotated() ? _rotatedQuery : _plainQuery;
        double largest = double.NegativeInfinity;
        for (int t = from; t < count; t++)
        {
            keys.Read(t, _vector);
            double sum = 0;
            for (int e = 0; e < query.Length; e++)
            {
                sum += query[e] * _vector[e];
            }

            _logits[t] = AttentionOracle.Capped(sum, _geometry.LogitSoftCap);
            largest = Math.Max(largest, _logits[t]);
        }

        return largest;
    }

    private double AddValues(ReferencePart values, int from, int count, double largest, double shrink)
    {
        for (int e = 0; e < _plain.Length; e++)
        {
            _plain[e] *= shrink;
            _rotated[e] *= shrink;
        }

        double[] target = values.Format.IsRotated() ? _rotated : _plain;
        double total = 0;
        for (int t = from; t < count; t++)
        {
            double weight = Math.Exp(_logits[t] - largest);
            values.Read(t, _vector);
            total += weight;
            for (int e = 0; e < target.Length; e++)
            {
                target[e] += weight * _vector[e];
            }
        }

        return total;
    }

    private void WriteStatistic(float* target, double largest, int from, int count)
    {
        double sum = 0;
        foreach (double logit in _logits.AsSpan(from, count - from))
        {
            sum += Math.Exp(logit - largest);
        }

        (target[0], target[1]) = (Stored(largest), (float)sum);
    }

    // Beyond binary32 a logit is its largest number; minus infinity says that nothing was seen.
    private static float Stored(double logit) => double.IsFinite(logit) ? (float)Math.Clamp(logit, float.MinValue, float.MaxValue) : (float)logit;

    private int SlotOf(in RaggedSequence s, int row, int pageIndex)
    {
        int lastPage = (s.Length - 1) / _geometry.PageTokens;
        return _tier.SlotOf(s.Sequence, row, _tier.Count(s.Sequence, row) - 1 - (lastPage - pageIndex));
    }

    private int Tokens()
    {
        int tokens = 0;
        foreach (ref readonly RaggedSequence s in _sequences.AsSpan(0, _count))
        {
            tokens += s.Tokens;
        }

        return tokens;
    }

    private void Note(bool finite, NonFinite at)
    {
        static (int, int, int, bool) Order(NonFinite n) => (n.Layer, n.Token, n.Head, n.IsValue);
        if (!finite && (_refused is null || Order(at).CompareTo(Order(_refused.Value)) < 0))
        {
            _refused = at;
        }
    }

    private static void Copy(KvTensor tensor, int token, int head, int heads, Span<float> vector)
    {
        int headStride = tensor.HeadStride == 0 ? vector.Length : tensor.HeadStride;
        int tokenStride = tensor.TokenStride == 0 ? heads * headStride : tensor.TokenStride;
        ReadOnlySpan<byte> source = tensor.Host[(((token * tokenStride) + (head * headStride)) * tensor.ElementBytes)..];
        for (int e = 0; e < vector.Length; e++)
        {
            vector[e] = tensor.Type switch
            {
                TensorType.F32 => MemoryMarshal.Cast<byte, float>(source)[e],
                TensorType.F16 => (float)MemoryMarshal.Cast<byte, Half>(source)[e],
                _ => BitConverter.UInt32BitsToSingle((uint)MemoryMarshal.Cast<byte, ushort>(source)[e] << 16),
            };
        }
    }

    // A kernel prepares queries for the classes of its layer and no others.
    private void ThrowIfForeign(int layer, int pageClass)
    {
        if (pageClass != KernelShape.Open && ((_tier.Shape.LayerClasses[layer] >> pageClass) & 1) == 0)
        {
            throw new InvalidOperationException($"layer {layer} lists a page of class {pageClass}, which is not among its classes");
        }
    }
}
