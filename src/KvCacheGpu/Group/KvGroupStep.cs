using System.Buffers;
using System.Runtime.ExceptionServices;

namespace KvCacheGpu;

/// <summary>
/// One forward pass over one or several sequences of a group: in each part, for each of its layers, an append and its attention; then <see cref="Commit"/>. Disposed
/// without it, the step leaves no trace in any part.
/// </summary>
/// <remarks>
/// Tensors hold the tokens of all sequences, the first sequence's first, and the heads of one part (<see cref="KvGroupPart.Geometry"/>), in host memory or in that of
/// the part's device. A step ends when it is committed or disposed, and when one of its sequences or the group is disposed; members but
/// <see cref="Dispose"/> then throw <see cref="ObjectDisposedException"/>.
/// Thread safety: each part is used by one thread at a time, and different parts by different threads at once; a call on a part throws
/// <see cref="KvConcurrencyException"/> while another is inside of the same part. <see cref="Commit"/> is called once all threads are done. Appends, attention and
/// commit allocate no managed memory; the step itself is a small object.
/// </remarks>
public sealed class KvGroupStep : IDisposable
{
    private readonly KvCacheGroup _group;
    private readonly KvStep[] _parts;

    private KvGroupStep(KvCacheGroup group, KvStep[] parts) => (_group, _parts) = (group, parts);

    /// <summary>Tokens of the step, over all its sequences.</summary>
    public int Tokens => _parts[0].Tokens;

    /// <summary>Writes the keys and values of a layer's heads into the open pages of a part. The layers of a part come in order, each once.</summary>
    /// <param name="part">Part, as <see cref="KvCacheGroup.Parts"/> counts.</param>
    /// <param name="layer">Layer of the whole model, one of the part's.</param>
    /// <param name="keys"><c>[tokens][KV heads of the part][key width]</c>; roped by the host.</param>
    /// <param name="values"><c>[tokens][KV heads of the part][value width]</c>.</param>
    /// <exception cref="KvStepOrderException">E010: not the layer's turn in this part.</exception>
    /// <exception cref="ArgumentException">No such part, a layer of another part, a tensor of another shape, or one in the memory of another device.</exception>
    /// <exception cref="KvUnsupportedException">E009: a device tensor where pages live in host memory.</exception>
    public void Append(int part, int layer, KvTensor keys, KvTensor values) => _parts[Checked(part)].Append(OwnLayer(part, layer), keys, values);

    /// <summary>Causal attention of a part's query heads over everything resident in a layer and the step's own tokens. May be called any number of times.</summary>
    /// <param name="part">Part, as <see cref="KvCacheGroup.Parts"/> counts.</param>
    /// <param name="layer">A layer of the whole model that this step has appended in the part.</param>
    /// <param name="queries"><c>[tokens][query heads of the part][key width]</c>; roped by the host.</param>
    /// <param name="output">Receives <c>[tokens][query heads of the part][value width]</c>, and if it is wanted the natural log-sum-exp of each <c>[token][query head]</c>.</param>
    /// <param name="window">A token sees itself and the <c>window - 1</c> positions before it. The default value is 0: all before it.</param>
    /// <exception cref="KvStepOrderException">E010: the layer has not been appended in this part.</exception>
    /// <exception cref="ArgumentException">No such part, a layer of another part, or a tensor or target of another shape or in the memory of another device.</exception>
    /// <exception cref="KvUnsupportedException">E009: a device tensor where pages live in host memory; a window over merged pages.</exception>
    public void Attend(int part, int layer, KvTensor queries, KvOutput output, int window = 0) =>
        _parts[Checked(part)].Attend(OwnLayer(part, layer), queries, output, window);

    /// <summary>What a graph must have been captured for, to be replayed in a part of this step. No other part and no other group has an equal shape.</summary>
    /// <param name="part">Part, as <see cref="KvCacheGroup.Parts"/> counts.</param>
    /// <exception cref="ArgumentException">No such part.</exception>
    /// <exception cref="KvUnsupportedException">E009: the part's device has no graphs (<see cref="KvGroupPart.HasGraphs"/>).</exception>
    public KvStepShape ShapeOf(int part) => _parts[Checked(part)].Shape;

    /// <summary>
    /// Begins to capture a part's stream, as <see cref="KvStep.BeginCapture(bool)"/> does: each part has graphs of its own, on its device. <see cref="EndCapture"/> follows, on the same thread; other parts go on
    /// meanwhile, captured or not.
    /// </summary>
    /// <param name="part">Part, as <see cref="KvCacheGroup.Parts"/> counts.</param>
    /// <param name="byHost">True if the host captures by itself. The default value is false.</param>
    /// <exception cref="ArgumentException">No such part.</exception>
    /// <exception cref="KvUnsupportedException">E009: the part's device has no graphs; or the part runs on the default stream.</exception>
    /// <exception cref="KvStepOrderException">E010: a capture of the part is under way.</exception>
    public void BeginCapture(int part, bool byHost = false) => _parts[Checked(part)].BeginCapture(byHost);

    /// <summary>Ends the capture of a part, as <see cref="KvStep.EndCapture(nint)"/> does. Layers of the graph are counted from the part's first one.</summary>
    /// <param name="part">Part, as <see cref="KvCacheGroup.Parts"/> counts.</param>
    /// <param name="hostGraph">The graph that the host has instantiated (its <c>CUgraphExec</c>), where it captures by itself. The default value is 0.</param>
    /// <exception cref="ArgumentException">No such part.</exception>
    /// <exception cref="KvStepOrderException">E010: no capture is under way, or one of the other kind; or the driver broke it off. The step goes on.</exception>
    /// <exception cref="KvUnsupportedException">E009: the part's device has no graphs.</exception>
    public KvStepGraph EndCapture(int part, nint hostGraph = 0) => _parts[Checked(part)].EndCapture(hostGraph);

    /// <summary>Enqueues all calls that a graph has captured in a part, in one launch.</summary>
    /// <param name="part">Part, as <see cref="KvCacheGroup.Parts"/> counts.</param>
    /// <param name="graph">A graph of the part's shape in this step (<see cref="ShapeOf"/>), whose first layer is the next one there.</param>
    /// <exception cref="ArgumentException">No such part, or the graph is of another shape, as those of other parts are; both are named.</exception>
    /// <exception cref="KvStepOrderException">E010: not the turn of the graph's first layer, or a capture is under way.</exception>
    /// <exception cref="KvUnsupportedException">E009: the part's device has no graphs; the graph has a window over merged pages.</exception>
    /// <exception cref="ObjectDisposedException">The graph was disposed.</exception>
    public void Replay(int part, KvStepGraph graph) => _parts[Checked(part)].Replay(graph);

    /// <summary>
    /// Commits the step: its tokens become part of the sequences in every part, or, if one part refuses its keys or values, in none; full pages are sealed, and the
    /// policy plans over the whole model.
    /// </summary>
    /// <exception cref="KvNonFiniteException">E004: keys or values of a part were not finite; the step is rolled back in every part, and has ended. Layer and head are the whole model's.</exception>
    /// <exception cref="KvStepOrderException">E010: a part's layers are missing; the step goes on in every part.</exception>
    /// <exception cref="KvConcurrencyException">E006: another thread is inside of a call on a part; the step goes on.</exception>
    public void Commit()
    {
        foreach (KvStep step in _parts)
        {
            step.ThrowIfIncomplete();
        }

        lock (_group.Ends)
        {
            CommitAll();
        }
    }

    /// <summary>
    /// Ends the step in every part, after calls of other threads that are inside; if it was not committed, every sequence is as before it began. Does nothing if the step
    /// has ended.
    /// </summary>
    /// <exception cref="KvConcurrencyException">E006: called from inside of a call on the step, as a policy could; the step goes on.</exception>
    public void Dispose()
    {
        lock (_group.Ends)
        {
            Abandon(_parts);
        }
    }

    /// <summary>Begins a step in every part, or says what one of them lacks.</summary>
    /// <returns>Null if it has begun.</returns>
    internal static KvShortage? Begin(
        KvCacheGroup group, ReadOnlySpan<KvGroupSequence> sequences, ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, ReadOnlySpan<KvStream> streams, out KvGroupStep? step)
    {
        step = null;
        group.Caches[0].State.ThrowIfDisposed();
        for (int i = 0; i < sequences.Length; i++)
        {
            group.ThrowIfNotMine(sequences[i] ?? throw new ArgumentNullException(nameof(sequences), $"expected a sequence, got null at {i}"), nameof(sequences));
        }

        if (!streams.IsEmpty && streams.Length != group.Caches.Length)
        {
            throw new ArgumentException($"expected a stream for each of {group.Caches.Length} parts, or none, got {streams.Length}", nameof(streams));
        }

        var parts = new KvStep[group.Caches.Length];
        for (int round = 0; TryBegin(group, sequences, tokenIds, tokensPerSequence, streams, parts, out int part) is { } shortage; round++)
        {
            if (!TryMakeWay(group, sequences, part, shortage, round))
            {
                group.Caches[part].State.Counts.CountRefusal(shortage);
                return new KvShortage($"{shortage.What} in part {part} ({group.Shape.Parts[part].Device})", shortage.Resource, shortage.Needed, shortage.Free)
                {
                    Sequence = shortage.Sequence is null ? null : sequences[0].Id,
                    Tenant = shortage.Tenant,
                };
            }
        }

        step = new KvGroupStep(group, parts);
        return null;
    }

    // The first part is entered first, and left last: who finds a sequence of it idle finds the others' so.
    private static KvShortage? TryBegin(
        KvCacheGroup group, ReadOnlySpan<KvGroupSequence> sequences, ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, ReadOnlySpan<KvStream> streams, KvStep[] steps, out int part)
    {
        KvSequence[] rented = ArrayPool<KvSequence>.Shared.Rent(sequences.Length);
        Span<KvSequence> own = rented.AsSpan(0, sequences.Length);
        KvShortage? shortage = null;
        bool hasBegun = false;
        part = 0;
        try
        {
            for (; part < steps.Length && shortage is null; part += shortage is null ? 1 : 0)
            {
                for (int i = 0; i < own.Length; i++)
                {
                    own[i] = sequences[i].Handles[part];
                }

                shortage = KvStep.Begin(group.Caches[part], own, tokenIds, tokensPerSequence, streams.IsEmpty ? default : streams[part], out steps[part]);
            }

            hasBegun = shortage is null;
            return shortage;
        }
        finally
        {
            own.Clear();
            ArrayPool<KvSequence>.Shared.Return(rented);
            if (!hasBegun)
            {
                Abandon(steps);
                Array.Clear(steps);
            }
        }
    }

    // The first part's own step has asked the policy already. For another part the policy is asked once nothing is begun, for as much in the whole model as gives the
    // part what it lacks.
    private static bool TryMakeWay(KvCacheGroup group, ReadOnlySpan<KvGroupSequence> sequences, int part, in KvShortage shortage, int round)
    {
        if (part == 0 || group.Caches[0].Pressure is not { } pressure)
        {
            return false;
        }

        long missing = (long)Math.Ceiling((double)shortage.Missing * group.Shape.RowsOf(0) / group.Shape.RowsOf(part));
        var ofFirst = new KvShortage(shortage.What, shortage.Resource, shortage.Free + missing, shortage.Free) { Tenant = shortage.Tenant };
        SequenceState[] rented = ArrayPool<SequenceState>.Shared.Rent(sequences.Length);
        int entered = 0;
        try
        {
            for (; entered < sequences.Length; entered++)
            {
                rented[entered] = sequences[entered].First;
                rented[entered].Gate.EnterCall();
            }

            return pressure.MakeWay(rented.AsSpan(0, entered), ofFirst, round);
        }
        finally
        {
            foreach (SequenceState sequence in rented.AsSpan(0, entered))
            {
                sequence.Gate.Leave();
            }

            ArrayPool<SequenceState>.Shared.Return(rented, clearArray: true);
        }
    }

    private static void Abandon(KvStep[] parts)
    {
        ExceptionDispatchInfo? failure = null;
        for (int part = parts.Length - 1; part >= 0; part--)
        {
            try
            {
                parts[part].Dispose();
            }
            catch (Exception e)
            {
                // The device of one part: the step ends in the others all the same.
                failure ??= ExceptionDispatchInfo.Capture(e);
            }
        }

        failure?.Throw();
    }

    // All devices work at once, and every part says what came of its keys and values before any is committed. The first part is the last: while its sequences are held
    // the policy plans, once all parts have scored their pages.
    private void CommitAll()
    {
        bool isCommitted = false;
        try
        {
            foreach (KvStep step in _parts)
            {
                step.Enqueue();
            }

            for (int part = 0; part < _parts.Length; part++)
            {
                if (_parts[part].Outcome() is { } refused)
                {
                    KvPart own = _group.Shape.Parts[part];
                    throw refused.OfPart(own.FirstLayer, own.Heads.Start - _group.Geometry.Heads.Start);
                }
            }

            for (int part = _parts.Length - 1; part >= 0; part--)
            {
                _parts[part].CommitPrepared();
            }

            isCommitted = true;
        }
        finally
        {
            if (!isCommitted)
            {
                Abandon(_parts);
            }
        }
    }

    private int Checked(int part)
    {
        Guard.ThrowIfOutside(part, _parts.Length, nameof(part));
        return part;
    }

    private int OwnLayer(int part, int layer)
    {
        KvPart own = _group.Shape.Parts[part];
        return layer >= own.FirstLayer && layer < own.FirstLayer + own.Layers
            ? layer - own.FirstLayer
            : throw new ArgumentOutOfRangeException(nameof(layer), layer, $"expected layers {own.FirstLayer}..{own.FirstLayer + own.Layers - 1} in part {part}");
    }
}
