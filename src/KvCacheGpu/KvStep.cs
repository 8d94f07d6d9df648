namespace KvCacheGpu;

/// <summary>
/// One forward pass over one or several sequences: per layer an append and its attention, then <see cref="Commit"/>. Disposed without it, the
/// step leaves no trace.
/// </summary>
/// <remarks>
/// Tensors hold the tokens of all sequences, the first sequence's first. A step ends when it is committed or disposed, and when one of its sequences or the
/// cache is disposed. From then on all members but <see cref="Dispose"/> throw <see cref="ObjectDisposedException"/>, in every copy of the value and on every
/// thread, also while later steps are under way. The default value is no step: its members throw <see cref="KvStepOrderException"/>. End every step: one
/// that is forgotten keeps its sequences in use until the cache is disposed.
/// Thread safety: one thread at a time; members throw <see cref="KvConcurrencyException"/> while another is inside. Several steps run at once, on a thread each.
/// </remarks>
public readonly struct KvStep : IDisposable, IEquatable<KvStep>
{
    private readonly StepLease? _lease;
    private readonly long _number;

    private KvStep(StepLease lease, long number) => (_lease, _number) = (lease, number);

    /// <summary>Tokens of the step, over all its sequences.</summary>
    public int Tokens => Lease.TokensOf(_number);

    /// <summary>What a graph must have been captured for, to be replayed in this step.</summary>
    /// <exception cref="KvUnsupportedException">E009: the device has no graphs (<see cref="KvCache.HasGraphs"/>).</exception>
    public KvStepShape Shape
    {
        get
        {
            using StepLease.Call call = Lease.EnterForCall(_number);
            return StepCapture.ShapeOf(call);
        }
    }

    /// <summary>The shape of the model that the step's cache is for.</summary>
    public KvGeometry Geometry => Lease.GeometryOf(_number);

    private StepLease Lease =>
        _lease ?? throw new KvStepOrderException("KvStep", "a step that Begin returned, or TryBegin with true", "a default value, which is no step");

    /// <summary>Returns true if both are the same step.</summary>
    public static bool operator ==(KvStep left, KvStep right) => left.Equals(right);

    /// <summary>Returns true if they are different steps.</summary>
    public static bool operator !=(KvStep left, KvStep right) => !left.Equals(right);

    /// <summary>Writes a layer's keys and values into the open pages. Layers come in order, each once.</summary>
    /// <param name="layer">Layer, 0 first.</param>
    /// <param name="keys"><c>[tokens][KV heads][key width]</c>; roped by the host.</param>
    /// <param name="values"><c>[tokens][KV heads][value width]</c>.</param>
    /// <exception cref="KvStepOrderException">E010: not the layer's turn.</exception>
    /// <exception cref="ArgumentException">No such layer, or a tensor of another shape.</exception>
    /// <exception cref="KvUnsupportedException">E009: a device tensor where pages live in host memory.</exception>
    /// <include file="../../docs/api/examples.xml" path="examples/of[@name='KvStep.Append']/*"/>
    public void Append(int layer, KvTensor keys, KvTensor values)
    {
        using StepLease.Call call = Lease.EnterForCall(_number);
        KvGeometry geometry = call.Cache.Geometry;
        Guard.ThrowIfOutside(layer, geometry.Layers, nameof(layer));
        int next = call.Step.Appended;
        if (layer != next)
        {
            throw new KvStepOrderException("Append", next < geometry.Layers ? $"layer {next}" : "Commit, all layers being there", $"layer {layer}");
        }

        keys.ThrowIfNotShaped(call.Step.Tokens, geometry.KvHeads, geometry.KeyWidth, nameof(keys));
        values.ThrowIfNotShaped(call.Step.Tokens, geometry.KvHeads, geometry.ValueWidth, nameof(values));
        try
        {
            call.Memory.Batch.Append(layer, keys, values);
        }
        catch (Exception e) when (StepCapture.Translate(e, call.Cache, "Append") is { } told)
        {
            throw told;
        }

        call.Step.Appended++;
    }

    /// <summary>
    /// Causal attention over everything resident in a layer and the step's own tokens. May be called any number of times. Finite queries give
    /// finite output, however small or large they are; log-sum-exps beyond binary32 are its largest number.
    /// </summary>
    /// <param name="layer">A layer that this step has appended.</param>
    /// <param name="queries"><c>[tokens][query heads][key width]</c>; roped by the host, and scaled inside by <see cref="KvGeometry.AttentionScale"/>.</param>
    /// <param name="output">
    /// Receives <c>[tokens][query heads][value width]</c>, in host memory or on the device, and if it is wanted the natural log-sum-exp of each
    /// <c>[token][query head]</c>.
    /// </param>
    /// <param name="window">A token sees itself and the <c>window - 1</c> positions before it; pages before all windows are not read. The default value is 0: all before it.</param>
    /// <exception cref="KvStepOrderException">E010: the layer has not been appended.</exception>
    /// <exception cref="ArgumentException">No such layer, or a tensor or target of another shape.</exception>
    /// <exception cref="KvUnsupportedException">E009: a device tensor where pages live in host memory; a window over merged pages.</exception>
    /// <include file="../../docs/api/examples.xml" path="examples/of[@name='KvStep.Attend']/*"/>
    public void Attend(int layer, KvTensor queries, KvOutput output, int window = 0)
    {
        using StepLease.Call call = Lease.EnterForCall(_number);
        CheckAttend(call, layer, queries, window);
        output = output.First(call.Step.Tokens * call.Cache.Geometry.QueryHeads, call.Cache.Geometry.ValueWidth);
        try
        {
            call.Step.Attend(call.Memory, layer, queries, output, window);
            if (call.Memory.Batch.CapturesFrom is null)
            {
                call.Step.Show(call.Memory, layer, queries, output);
                call.Step.NoteAttended(layer, window);
            }
        }
        catch (Exception e) when (StepCapture.Translate(e, call.Cache, "Attend") is { } told)
        {
            throw told;
        }
    }

    /// <summary>
    /// Begins to capture the step's stream: what <see cref="Append"/> and <see cref="Attend"/> enqueue becomes part of a graph, as do kernels that the host enqueues there,
    /// and none of it runs before <see cref="Replay"/>. <see cref="EndCapture"/> follows, on the same thread; calls on other steps go on meanwhile.
    /// </summary>
    /// <remarks>
    /// Tensors and outputs lie in device memory, at addresses that stay the same in every step that replays the graph. Until the capture ends, a host may not do on this thread what CUDA refuses to a thread that captures: wait for a
    /// stream, copy to or from memory that is not page-locked, allocate, or load kernels.
    /// </remarks>
    /// <param name="byHost">
    /// True if the host captures by itself: it begins to capture the step's stream after this call, ends that before <see cref="EndCapture"/>, and instantiates the graph. Other streams of its own may be part of
    /// it. The default value is false.
    /// </param>
    /// <exception cref="KvUnsupportedException">E009: the device has no graphs (<see cref="KvCache.HasGraphs"/>); the step runs on the default stream; or it has more than one token of a sequence under a policy that looks at queries.</exception>
    /// <exception cref="KvStepOrderException">E010: a capture is under way.</exception>
    public void BeginCapture(bool byHost = false)
    {
        using StepLease.Call call = Lease.EnterForCall(_number);
        StepCapture.Begin(call, byHost);
    }

    /// <summary>Ends the capture. The layers that it appended are to be appended again: by <see cref="Replay"/>, or by the calls themselves.</summary>
    /// <param name="hostGraph">The graph that the host has instantiated (its <c>CUgraphExec</c>), where it captures by itself; it stays the host's. The default value is 0.</param>
    /// <exception cref="KvStepOrderException">
    /// E010: no capture is under way, or one of the other kind; or the driver broke it off, because a call was made that no graph can hold. The step goes on.
    /// </exception>
    /// <exception cref="KvUnsupportedException">E009: the device has no graphs.</exception>
    public KvStepGraph EndCapture(nint hostGraph = 0)
    {
        using StepLease.Call call = Lease.EnterForCall(_number);
        return StepCapture.End(call, hostGraph);
    }

    /// <summary>Enqueues all calls that a graph has captured, in one launch. They read the lengths, positions and pages of this step.</summary>
    /// <param name="graph">A graph of this step's <see cref="Shape"/>, whose first layer is the next one here.</param>
    /// <exception cref="ArgumentException">The graph is of another shape; both are named.</exception>
    /// <exception cref="KvStepOrderException">E010: not the turn of the graph's first layer, or a capture is under way.</exception>
    /// <exception cref="KvUnsupportedException">E009: the device has no graphs; the graph has a window over merged pages.</exception>
    /// <exception cref="ObjectDisposedException">The graph was disposed.</exception>
    public void Replay(KvStepGraph graph)
    {
        ArgumentNullException.ThrowIfNull(graph);
        using StepLease.Call call = Lease.EnterForCall(_number);
        StepCapture.Replay(call, graph);
    }

    /// <summary>
    /// Decodes all tokens of a layer that are resident in one of the step's sequences, the step's own among them, in the plain basis and in order: what a model that concatenates keys
    /// and values attends to. Attention by <see cref="Attend"/> reads the pages where they lie, and needs none of it.
    /// </summary>
    /// <param name="layer">A layer that this step has appended.</param>
    /// <param name="sequence">Which of the step's sequences, 0 for the first.</param>
    /// <param name="keys">Receives <c>[tokens][KV heads][key width]</c>, dense, in host memory or on the device; the default value leaves the keys out. Log-sum-exps are not written.</param>
    /// <param name="values">Receives <c>[tokens][KV heads][value width]</c>, dense; the default value leaves the values out.</param>
    /// <remarks>On the device the targets are ready on the step's stream, and nothing waits. Host memory is written when the call returns.</remarks>
    /// <returns>Tokens written, ascending by position: the sequence's length and the step's tokens, where no policy dropped any.</returns>
    /// <exception cref="KvStepOrderException">E010: the layer has not been appended.</exception>
    /// <exception cref="ArgumentException">No such layer or sequence, a target that is too short, or memory that the device does not reach.</exception>
    /// <exception cref="KvUnsupportedException">
    /// E009: a policy left different pages to different heads, so that there is no tensor of whole tokens; or a target lies on a device, and the cache in host memory.
    /// </exception>
    public int ReadLayer(int layer, int sequence, KvOutput keys, KvOutput values)
    {
        using StepLease.Call call = Lease.EnterForCall(_number);
        ThrowIfNotAppended(call, "ReadLayer", layer);
        StepCapture.ThrowIfUnderWay(call, "ReadLayer");
        Guard.ThrowIfOutside(sequence, call.Step.Members.Count, nameof(sequence));
        return new SequenceReader(call.Cache, call.Step.Members.Sequences[sequence]).DecodeLayer(layer, call.Memory.Batch, keys, values);
    }

    /// <summary>Commits the step: its tokens become part of the sequences; pages that are full, and <see cref="KvCacheOptions.ExactRollbackTokens"/> old, are sealed; the policy evicts.</summary>
    /// <remarks>Waits for the device; see <see cref="EnqueueCommit"/>.</remarks>
    /// <exception cref="KvNonFiniteException">E004: keys or values were not finite; the step is rolled back and has ended.</exception>
    /// <exception cref="KvStepOrderException">E010: layers are missing; the step goes on.</exception>
    /// <include file="../../docs/api/examples.xml" path="examples/of[@name='KvStep.Commit']/*"/>
    public void Commit()
    {
        using StepLease.Call call = Lease.EnterForCall(_number);
        ThrowIfIncomplete(call);
        call.Step.Enqueue(call.Memory);
        if (call.Step.Outcome(call.Memory) is { } refused)
        {
            call.Step.Abandon(call.Memory);
            throw refused;
        }

        call.Step.Publish(call.Memory);
    }

    /// <summary>
    /// Commits the step without waiting for the device: what <see cref="Commit"/> does there is enqueued on the step's stream. For the host the step has
    /// ended, and its sequences have grown. Whether keys and values were finite is known later: the next step or call that needs one of the sequences,
    /// or <see cref="KvCache.Settle"/>, takes the outcome over.
    /// </summary>
    /// <remarks>
    /// A step that is refused is rolled back then, and <see cref="KvNonFiniteException"/> is thrown once for each of its sequences by the first call that
    /// needs it, or once by <see cref="KvCache.Settle"/>; so is an error of the device. Until the outcome is taken over, the step keeps its working memory and the open pages of those
    /// that it seals; what is done when a step begins gives them back. A policy plans then too. The stream must live until this call returns. The one
    /// commit in a cache's life that learns key scales (<see cref="KvCache.KeyScales"/>) waits for the device all the same.
    /// </remarks>
    /// <exception cref="KvStepOrderException">E010: layers are missing; the step goes on.</exception>
    public void EnqueueCommit()
    {
        using StepLease.Call call = Lease.EnterForCall(_number);
        ThrowIfIncomplete(call);
        call.Step.Enqueue(call.Memory);
        call.Defer();
    }

    /// <summary>
    /// Ends the step, after a call of another thread that is inside; if it was not committed, every sequence is as before it began. Calls that come
    /// later throw <see cref="ObjectDisposedException"/>. Does nothing if the step has ended, or was never begun.
    /// </summary>
    /// <exception cref="KvConcurrencyException">E006: called from inside of a call on the step, as a policy could; the step goes on.</exception>
    public void Dispose() => _lease?.Abandon(_number);

    /// <inheritdoc/>
    public bool Equals(KvStep other) => _lease == other._lease && _number == other._number;

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is KvStep other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(_lease, _number);

    /// <exception cref="KvStepOrderException">E010: layers are missing; the step goes on.</exception>
    internal void ThrowIfIncomplete()
    {
        using StepLease.Call call = Lease.EnterForCall(_number);
        ThrowIfIncomplete(call);
    }

    /// <summary>Begins to commit: enqueues all that the device has to do for it. <see cref="Outcome"/> or <see cref="Dispose"/> follows, and nothing else.</summary>
    internal void Enqueue()
    {
        using StepLease.Call call = Lease.EnterForCall(_number);
        call.Step.Enqueue(call.Memory);
    }

    /// <summary>Waits for what <see cref="Enqueue"/> has left to the device. <see cref="CommitPrepared"/> or <see cref="Dispose"/> follows, and nothing else.</summary>
    /// <returns>Null, or why the step must be disposed.</returns>
    internal KvNonFiniteException? Outcome()
    {
        using StepLease.Call call = Lease.EnterForCall(_number);
        return call.Step.Outcome(call.Memory);
    }

    /// <summary>Ends a commit: the tokens become part of the sequences.</summary>
    internal void CommitPrepared()
    {
        using StepLease.Call call = Lease.EnterForCall(_number);
        call.Step.Publish(call.Memory);
    }

    /// <summary>Begins a step of sequences, or says what is missing. Every argument is checked before anything changes.</summary>
    /// <returns>Null if it has begun.</returns>
    internal static KvShortage? Begin(
        KvCache cache, ReadOnlySpan<KvSequence> sequences, ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, KvStream stream, out KvStep step)
    {
        ThrowIfNotMembers(cache, sequences, tokensPerSequence);
        ThrowIfNotMine(cache, stream);
        StepDemand.ThrowIfMalformed(cache.State.Options, tokenIds, tokensPerSequence, sequences.Length);
        StepLease lease = Rent(cache, sequences);
        KvShortage? shortage = lease.Open(tokenIds, tokensPerSequence, stream, out long number);
        KeepAlive(sequences);
        step = shortage is null ? new KvStep(lease, number) : default;
        return shortage;
    }

    /// <summary>True if a step of sequences could begin now, as far as memory goes.</summary>
    internal static bool CouldBegin(KvCache cache, ReadOnlySpan<KvSequence> sequences, ReadOnlySpan<int> tokensPerSequence)
    {
        ThrowIfNotMembers(cache, sequences, tokensPerSequence);
        bool could = sequences.Length <= cache.State.Options.MostBatched && Rent(cache, sequences).CouldOpen(tokensPerSequence);
        KeepAlive(sequences);
        return could;
    }

    // A handle that is collected gives its sequence back: not before the step has it.
    private static void KeepAlive(ReadOnlySpan<KvSequence> sequences)
    {
        foreach (KvSequence sequence in sequences)
        {
            GC.KeepAlive(sequence);
        }
    }

    private static void ThrowIfNotMembers(KvCache cache, ReadOnlySpan<KvSequence> sequences, ReadOnlySpan<int> tokensPerSequence)
    {
        cache.State.ThrowIfDisposed();
        if (sequences.IsEmpty)
        {
            throw new ArgumentException("expected at least 1 sequence, got 0", nameof(sequences));
        }

        for (int i = 0; i < sequences.Length; i++)
        {
            KvSequence sequence = sequences[i] ?? throw new ArgumentNullException(nameof(sequences), $"expected a sequence, got null at {i}");
            if (sequence.Cache != cache)
            {
                throw new ArgumentException($"expected sequences of this cache, got one of another at {i}", nameof(sequences));
            }

            if (sequence.State.Gate.IsDisposed)
            {
                throw StepMembers.DisposedAt(i, sequences.Length);
            }
        }

        StepDemand.ThrowIfNotOneEach(tokensPerSequence.Length, sequences.Length);
        if (sequences.Length > cache.State.Places)
        {
            throw new ArgumentException($"expected each sequence once, got {sequences.Length} where at most {cache.State.Places} live", nameof(sequences));
        }
    }

    private static StepLease Rent(KvCache cache, ReadOnlySpan<KvSequence> sequences)
    {
        StepLease lease = cache.Steps.Rent();
        Span<SequenceState> members = lease.Transaction.Members.Take(sequences.Length);
        for (int i = 0; i < sequences.Length; i++)
        {
            members[i] = sequences[i].State;
        }

        return lease;
    }

    private static void ThrowIfNotMine(KvCache cache, KvStream stream)
    {
        try
        {
            cache.State.Tier.ThrowIfNotMine(stream);
        }
        catch (NotSupportedException e)
        {
            throw new KvUnsupportedException($"the stream of a step on {cache.State.Tier.Name}", "the default value", e.Message, e);
        }
        catch (StreamCaptureException e)
        {
            throw new KvStepOrderException("Begin", e.Expected, e.Actual, e);
        }
    }

    private static void ThrowIfIncomplete(in StepLease.Call call)
    {
        StepCapture.ThrowIfUnderWay(call, "Commit");
        int layers = call.Cache.Geometry.Layers;
        if (call.Step.Appended != layers)
        {
            throw new KvStepOrderException("Commit", $"{layers} layers appended", $"{call.Step.Appended}");
        }
    }

    private static void CheckAttend(in StepLease.Call call, int layer, KvTensor queries, int window)
    {
        KvGeometry geometry = call.Cache.Geometry;
        ArgumentOutOfRangeException.ThrowIfNegative(window);
        ThrowIfNotAppended(call, "Attend", layer);
        queries.ThrowIfNotShaped(call.Step.Tokens, geometry.QueryHeads, geometry.KeyWidth, nameof(queries));
        foreach (SequenceState sequence in call.Step.Members.Sequences)
        {
            AttentionRead.ThrowIfWindowOverMerged(sequence.Table, layer, window);
        }
    }

    private static void ThrowIfNotAppended(in StepLease.Call call, string what, int layer)
    {
        Guard.ThrowIfOutside(layer, call.Cache.Geometry.Layers, nameof(layer));
        int appended = call.Step.Appended;
        if (layer >= appended)
        {
            throw new KvStepOrderException(what, appended == 0 ? "Append of layer 0 first" : $"a layer up to {appended - 1}, as appended", $"layer {layer}, which the step has not appended");
        }
    }
}
