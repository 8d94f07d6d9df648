using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Reads a sequence back between steps: decoded keys and values, positions, digests, shares of attention. For evaluation, tests and tools; a model's
/// step never needs it.
/// </summary>
/// <remarks>
/// Members throw as those of <see cref="KvSequence"/> do: <see cref="ObjectDisposedException"/> after disposal, <see cref="KvConcurrencyException"/> while
/// a step is under way or another thread is inside.
/// </remarks>
public static class KvSequenceReading
{
    /// <summary>
    /// Writes the positions of a layer and KV head's resident tokens, ascending. Between two calls another sequence's step may make a policy drop some:
    /// <see cref="Materialize(KvSequence, int, int, Span{int}, Span{float}, Span{float})"/> reads positions and tokens together.
    /// </summary>
    /// <returns>How many: <see cref="KvSequence.ResidentTokens"/>.</returns>
    /// <exception cref="ArgumentException">The target is too short.</exception>
    public static int ResidentPositions(this KvSequence sequence, int layer, int head, Span<int> positions)
    {
        int row = sequence.RowOf(layer, head);
        using SequenceGate.Call call = sequence.Enter();
        return Reader(sequence).PositionsOf(row, positions);
    }

    /// <summary>Decodes a layer's resident tokens, in the plain basis.</summary>
    /// <inheritdoc cref="Materialize(KvSequence, int, Span{int}, Span{float}, Span{float})"/>
    public static int Materialize(this KvSequence sequence, int layer, Span<float> keys, Span<float> values) => sequence.Materialize(layer, [], keys, values);

    /// <summary>Decodes a layer's resident tokens, in the plain basis, and tells their positions: all of one moment.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="layer">Layer.</param>
    /// <param name="positions">Receives the tokens' positions, ascending; empty leaves them out.</param>
    /// <param name="keys">Receives <c>[tokens][KV heads][key width]</c>; empty leaves the keys out.</param>
    /// <param name="values">Receives <c>[tokens][KV heads][value width]</c>; empty leaves the values out.</param>
    /// <returns>Tokens written, ascending by position.</returns>
    /// <exception cref="KvUnsupportedException">E009: a policy left different pages to different heads; read them one by one.</exception>
    /// <exception cref="ArgumentException">A target is too short, or the layer does not exist.</exception>
    public static int Materialize(this KvSequence sequence, int layer, Span<int> positions, Span<float> keys, Span<float> values)
    {
        _ = sequence.RowOf(layer, 0);
        using SequenceGate.Call call = sequence.Enter();
        return Reader(sequence).DecodeLayer(layer, positions, keys, values);
    }

    /// <summary>
    /// Decodes all tokens of a layer that are resident, in the plain basis and in order, into host memory or onto the device, in any type. For models that take keys and values as
    /// whole tensors. What a cache holds compressed is written out in full; a step's attention never needs it. A step under way has <see cref="KvStep.ReadLayer"/>.
    /// </summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="layer">Layer.</param>
    /// <param name="keys">Receives <c>[tokens][KV heads][key width]</c>, dense; the default value leaves the keys out. Log-sum-exps are not written.</param>
    /// <param name="values">Receives <c>[tokens][KV heads][value width]</c>, dense; the default value leaves the values out.</param>
    /// <remarks>
    /// On the device the targets are written by the device and pass through no host memory; they are ready on the default stream of the cache's accelerator.
    /// Host memory is written when the call returns.
    /// </remarks>
    /// <returns>Tokens written, ascending by position: all of them, where no policy dropped any (<see cref="ResidentPositions"/>).</returns>
    /// <exception cref="KvUnsupportedException">
    /// E009: a policy left different pages to different heads, so that there is no tensor of whole tokens; or a target lies on a device, and the cache in host memory.
    /// </exception>
    /// <exception cref="ArgumentException">A target is too short, or memory that the device does not reach, or the layer does not exist.</exception>
    public static int ReadLayer(this KvSequence sequence, int layer, KvOutput keys, KvOutput values)
    {
        _ = sequence.RowOf(layer, 0);
        using SequenceGate.Call call = sequence.Enter();
        return Reader(sequence).DecodeLayer(layer, [], keys, values);
    }

    /// <summary>Decodes the resident tokens of a layer and KV head, in the plain basis.</summary>
    /// <inheritdoc cref="Materialize(KvSequence, int, int, Span{int}, Span{float}, Span{float})"/>
    public static int Materialize(this KvSequence sequence, int layer, int head, Span<float> keys, Span<float> values) => sequence.Materialize(layer, head, [], keys, values);

    /// <summary>Decodes the resident tokens of a layer and KV head, in the plain basis, and tells their positions: all of one moment.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="layer">Layer.</param>
    /// <param name="head">KV head, counted from the first held here.</param>
    /// <param name="positions">Receives the tokens' positions, ascending; empty leaves them out.</param>
    /// <param name="keys">Receives <c>[tokens][key width]</c>; empty leaves the keys out.</param>
    /// <param name="values">Receives <c>[tokens][value width]</c>; empty leaves the values out.</param>
    /// <returns>Tokens written: <see cref="KvSequence.ResidentTokens"/>.</returns>
    /// <exception cref="ArgumentException">A target is too short, or layer or head do not exist.</exception>
    public static int Materialize(this KvSequence sequence, int layer, int head, Span<int> positions, Span<float> keys, Span<float> values)
    {
        int row = sequence.RowOf(layer, head);
        using SequenceGate.Call call = sequence.Enter();
        return Reader(sequence).Decode(row, 1, positions, keys, values);
    }

    /// <summary>Decodes one token of a layer, in the plain basis.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="layer">Layer.</param>
    /// <param name="position">The token, 0 to <see cref="KvSequence.Length"/> - 1.</param>
    /// <param name="keys">Receives <c>[KV heads][key width]</c>.</param>
    /// <param name="values">Receives <c>[KV heads][value width]</c>.</param>
    /// <returns>False if a policy dropped it in some KV head; the targets then hold nothing of use.</returns>
    /// <exception cref="ArgumentException">A target is too short, or layer or token do not exist.</exception>
    public static bool TryRead(this KvSequence sequence, int layer, int position, Span<float> keys, Span<float> values)
    {
        _ = sequence.RowOf(layer, 0);
        using SequenceGate.Call call = sequence.Enter();
        Guard.ThrowIfOutside(position, sequence.State.Length, nameof(position));
        Guard.ThrowIfShorter(keys.Length, sequence.Cache.Geometry.KvHeads * sequence.Cache.Geometry.KeyWidth, nameof(keys));
        Guard.ThrowIfShorter(values.Length, sequence.Cache.Geometry.KvHeads * sequence.Cache.Geometry.ValueWidth, nameof(values));
        return Reader(sequence).TryDecodeToken(layer, position, keys, values);
    }

    /// <summary>Reads the mean and the deviation of a sealed page's keys, as they were before they were encoded.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="layer">Layer.</param>
    /// <param name="head">KV head, counted from the first held here.</param>
    /// <param name="page">Page index: first position / page tokens.</param>
    /// <param name="mean">
    /// Receives the mean key, <c>[key width]</c>, in the plain basis, in which keys were appended. Of T formats it is the mean of
    /// the keys divided by their rms, times the page's mean rms: exact where all keys of the page have one length.
    /// </param>
    /// <param name="deviation">
    /// Receives the standard deviation of each element, <c>[key width]</c>, in the basis in which the page lies: rotated for I8 and T formats
    /// (<see cref="Rotation"/>), of T formats also under their scales (<see cref="KvKeyScales"/>), else plain; a deviation by element does not survive a change of basis, its norm over the elements does. Of T
    /// formats, times the page's mean rms, as the mean is.
    /// </param>
    /// <returns>False, and nothing is written, if the page carries none: open pages, and those that their own format could not hold.</returns>
    /// <exception cref="ArgumentException">No such layer, head or resident page, or a target too short.</exception>
    public static bool PageDigest(this KvSequence sequence, int layer, int head, int page, Span<float> mean, Span<float> deviation)
    {
        int row = sequence.RowOf(layer, head);
        using SequenceGate.Call call = sequence.Enter();
        Guard.ThrowIfShorter(mean.Length, sequence.Cache.Geometry.KeyWidth, nameof(mean));
        Guard.ThrowIfShorter(deviation.Length, sequence.Cache.Geometry.KeyWidth, nameof(deviation));
        int entry = sequence.State.Table.EntryOf(row, page);
        return entry >= 0
            ? sequence.Cache.State.Reader.ReadDigest(sequence.State.Table, sequence.Cache.State.ScalesOf(sequence.State.Table), row, entry, mean, deviation)
            : throw new ArgumentOutOfRangeException(nameof(page), page, $"expected a resident page of layer {layer}, head {head}, got {page}");
    }

    /// <summary>The share of attention that each resident page received from the last token of the last committed step.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="layer">Layer.</param>
    /// <param name="queryHead">Query head.</param>
    /// <param name="mass">Receives a number of 0..1 per resident page of the query head's KV head, ascending by position; they sum to 1 as far as no page was dropped since.</param>
    /// <returns>Pages written; 0 if the last step did not attend to this layer, was abandoned, or the sequence was truncated since.</returns>
    /// <exception cref="ArgumentException">The target is too short, or layer or head do not exist.</exception>
    /// <exception cref="KvUnsupportedException">E009: the cache keeps no such numbers: neither <see cref="KvCacheOptions.PageStatistics"/> nor a policy asks for them.</exception>
    public static int PageMass(this KvSequence sequence, int layer, int queryHead, Span<float> mass)
    {
        Guard.ThrowIfOutside(queryHead, sequence.Cache.Geometry.QueryHeads, nameof(queryHead));
        Guard.ThrowIfOutside(layer, sequence.Cache.Geometry.Layers, nameof(layer));
        using SequenceGate.Call call = sequence.Enter();
        return Reader(sequence).PageMass(layer, queryHead, mass);
    }

    /// <summary>The share of attention that each resident token would receive from a query. Decodes the keys: for evaluation, not for every step.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="layer">Layer.</param>
    /// <param name="queryHead">Query head, whose KV head's tokens are meant.</param>
    /// <param name="query">The query, <c>[key width]</c>, as for a step: roped, not scaled.</param>
    /// <param name="mass">Receives a number of 0..1 per resident token, ascending by position (<see cref="ResidentPositions"/>); they sum to 1.</param>
    /// <param name="positions">Receives these tokens' positions; empty, the default, leaves them out.</param>
    /// <returns>Tokens written: <see cref="KvSequence.ResidentTokens"/>.</returns>
    /// <exception cref="ArgumentException">The query or the target is too short, or layer or head do not exist.</exception>
    public static int TokenMass(this KvSequence sequence, int layer, int queryHead, ReadOnlySpan<float> query, Span<float> mass, Span<int> positions = default)
    {
        Guard.ThrowIfOutside(queryHead, sequence.Cache.Geometry.QueryHeads, nameof(queryHead));
        int row = sequence.RowOf(layer, queryHead / sequence.Cache.Geometry.GroupSize);
        using SequenceGate.Call call = sequence.Enter();
        return Reader(sequence).TokenMass(row, query, mass, positions);
    }

    private static SequenceReader Reader(KvSequence sequence) => new(sequence.Cache.State, sequence.State);
}
