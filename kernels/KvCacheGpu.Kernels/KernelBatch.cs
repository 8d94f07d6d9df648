namespace KvCacheGpu.Kernels;

/// <summary>One sequence's part of a ragged launch.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Sequence">Its sequence slot in the tables.</param>
/// <param name="FirstToken">Its first token in the launch's tensors.</param>
/// <param name="Tokens">Its tokens in this launch, at least 1.</param>
/// <param name="Length">Its length in tokens once they are appended: the last of them has position Length - 1.</param>
/// <param name="KeepsStatistics">
/// True if attention leaves the page statistics and log-sum-exps of the tables as they are, so that it changes nothing. The default value is
/// false: they become those of the sequence's last token.
/// </param>
/// <param name="KeyTable">The table of key scales that the sequence's T pages are under, below <see cref="KernelTier.KeyTables"/>. The default value is 0.</param>
public readonly record struct RaggedSequence(int Sequence, int FirstToken, int Tokens, int Length, bool KeepsStatistics = false, int KeyTable = 0)
{
    /// <summary>The token in this launch whose statistics the tables receive; -1 where the tables keep theirs.</summary>
    internal int MeasuredToken => KeepsStatistics ? -1 : Tokens - 1;
}

/// <summary>Where an element was refused that no page format holds: a NaN, an infinity, or a value beyond a page format (<see cref="KernelShape.KeyRefusedFrom"/>).</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Layer">Layer.</param>
/// <param name="Token">Token in the launch's tensors.</param>
/// <param name="Head">KV head.</param>
/// <param name="IsValue">In the values; else in the keys.</param>
public readonly record struct NonFinite(int Layer, int Token, int Head, bool IsValue);

/// <summary>The launches of one step: append and attend over a ragged batch, layer by layer.</summary>
/// <remarks>Thread safety: it is used by one thread at a time.</remarks>
public abstract class KernelBatch : IDisposable
{
    /// <summary>Tokens of each sequence that <see cref="Observe"/> takes, at most.</summary>
    public const int MaxObserved = 64;

    /// <summary>Bytes of working memory held; does not grow with the length of sequences.</summary>
    public abstract long ScratchBytes { get; }

    /// <summary>
    /// Sets the batch of the launches that follow. The tables already list, for every layer and head, pages up to each
    /// sequence's length; the leaves of these entries are open, and so are those of their page indexes.
    /// </summary>
    /// <param name="sequences">The sequences.</param>
    /// <param name="stream">The stream that all work of the batch is enqueued on. The default value: the accelerator's default stream.</param>
    /// <exception cref="ArgumentException">A stream of another accelerator or context.</exception>
    /// <exception cref="NotSupportedException">A stream, and the tier works in host memory.</exception>
    public abstract void Begin(ReadOnlySpan<RaggedSequence> sequences, KvStream stream = default);

    /// <summary>Writes the batch's keys <c>[tokens][KV heads][key width]</c> and values into the open pages of a layer.</summary>
    public abstract void Append(int layer, KvTensor keys, KvTensor values);

    /// <summary>
    /// Causal attention of queries <c>[tokens][query heads][key width]</c>, scaled by <see cref="KvGeometry.AttentionScale"/> and capped by
    /// <see cref="KvGeometry.LogitSoftCap"/>, over the pages of a layer.
    /// Writes <c>output[tokens][query heads][value width]</c>, and for each sequence's last token the page statistics and log-sum-exp of
    /// the tables (not where <see cref="RaggedSequence.KeepsStatistics"/>, or where the shape keeps none).
    /// </summary>
    /// <remarks>
    /// Finite queries, keys and values give finite output. A logit, before its cap, is within 1e-6 of |q| |k| times the scale of the
    /// exact one (over T pages q and k are those that key scales made of them: <see cref="KvKeyScales"/>), and a cap is exact to 3e-7 of the logit: so the output equals a float64 oracle's within 1e-5 of its norm where logits are up to a few tens, and where they are
    /// larger, the token that wins by more than that error has all the weight, and tokens nearer to it may share it. Where the key format of
    /// all classes is F32 or BF16, an element of a query counts as 0 where it is below 2^-138 of the largest. Stored logits and
    /// log-sum-exps beyond binary32 are its largest number.
    /// </remarks>
    /// <param name="layer">Layer.</param>
    /// <param name="queries">Queries.</param>
    /// <param name="output">Receives the output and, where they are wanted, the log-sum-exps. Elements behind those of the batch stay as they are.</param>
    /// <param name="window">A token sees itself and the <c>window - 1</c> positions before it. The default value is 0: all before it.</param>
    /// <exception cref="NotSupportedException">Queries or output lie on a device, and the tier works in host memory.</exception>
    public abstract void Attend(int layer, KvTensor queries, KvOutput output, int window = 0);

    /// <summary>
    /// Adds the attention that the last tokens of each sequence paid to each page to <see cref="TableMap.ScoreWindow"/>: each token's mass, the
    /// mean over the query heads of the group. One pass over the keys. Follows the <see cref="Attend"/>
    /// of the same layer and queries, whose log-sum-exps and window it goes by.
    /// </summary>
    /// <param name="layer">Layer that was attended to last.</param>
    /// <param name="queries">Its queries.</param>
    /// <param name="last">Tokens of each sequence that count, from its last back; 1 to <see cref="MaxObserved"/>. Those of earlier steps do not.</param>
    /// <exception cref="InvalidOperationException">Another layer was attended to last, or the shape keeps no statistics.</exception>
    public abstract void Observe(int layer, KvTensor queries, int last);

    /// <summary>
    /// Decodes pages as <see cref="KernelTier.Materialize"/> does, in the order of the batch's launches: pages hold what was appended before. Targets on the device are ready
    /// on the batch's stream.
    /// </summary>
    /// <inheritdoc cref="KernelTier.Materialize" path="/exception"/>
    public abstract void Materialize(ReadOnlySpan<PageRead> reads, KvOutput keys, KvOutput values);

    /// <summary>Copies the elements of a tensor on the device to the host, in the order of the batch's launches; waits.</summary>
    /// <param name="tensor">The tensor.</param>
    /// <param name="target">Receives all that the tensor spans, gaps counted: its length times its elements' bytes.</param>
    /// <exception cref="NotSupportedException">The tier works in host memory, or the device cannot name the memory.</exception>
    public virtual void ReadBack(KvTensor tensor, Span<byte> target) => throw new NotSupportedException("expected host memory, got a tensor on a device");

    /// <summary>Writes an output on the device that the host has made, in the order of the batch's launches; waits.</summary>
    /// <param name="target">The output.</param>
    /// <param name="output">Its elements, of its type: as many as it has room for, or fewer.</param>
    /// <param name="logSumExp">Its log-sum-exps; empty where it wants none.</param>
    /// <exception cref="NotSupportedException">The tier works in host memory.</exception>
    public virtual void Write(KvOutput target, ReadOnlySpan<byte> output, ReadOnlySpan<float> logSumExp) =>
        throw new NotSupportedException("expected host memory, got an output on a device");

    /// <summary>Scores pages in host memory where they lie; null where the device cannot read it, or the host has all at hand.</summary>
    public virtual SketchScorer? Sketches => null;

    /// <summary>
    /// Brings the scores of all pages of the batch's sequences up to date with the attention of each sequence's last query, in the layers
    /// that were attended to since <see cref="Begin"/>. Once a step, after its last Attend.
    /// </summary>
    /// <param name="decay">Factor of the mass and peak so far, before those of the step are added.</param>
    /// <param name="step">The number of the step, for <see cref="TableMap.ScoreLastUsed"/>.</param>
    /// <exception cref="InvalidOperationException">The shape keeps no statistics.</exception>
    public abstract void Score(float decay, int step);

    /// <summary>
    /// Seals pages, behind all launches so far, as <see cref="KernelTier.Transcode"/> would. May be called several times. What becomes of each is told by
    /// <see cref="IsKept"/>; of an element that is refused both are of no use.
    /// </summary>
    /// <param name="moves">The pages: over all calls no more than fill in one batch.</param>
    public abstract void Seal(ReadOnlySpan<PageMove> moves);

    /// <summary>All that the launches of the batch depend on, apart from what they read on the device.</summary>
    /// <exception cref="NotSupportedException">The device has no graphs.</exception>
    public virtual KvStepShape StepShape => throw WithoutGraphs();

    /// <summary>First layer of the capture that is under way; null if none is.</summary>
    public virtual int? CapturesFrom => null;

    /// <summary>Begins to capture the batch's stream: appends and attention become part of a graph, as all that the host enqueues there, and nothing of it runs.</summary>
    /// <param name="firstLayer">The layer that is appended next.</param>
    /// <param name="isByHost">True if the host captures its stream by itself from here on.</param>
    /// <exception cref="NotSupportedException">The device has no graphs, or the stream is one that cannot be captured.</exception>
    public virtual void BeginCapture(int firstLayer, bool isByHost) => throw WithoutGraphs();

    /// <summary>Ends the capture.</summary>
    /// <param name="hosts">The graph that the host has instantiated (CUgraphExec), where it captures by itself; else 0.</param>
    /// <exception cref="InvalidOperationException">No capture is under way, or one of the other kind, or the driver has broken it off.</exception>
    public virtual KvStepGraph EndCapture(nint hosts = 0) => throw WithoutGraphs();

    /// <summary>Enqueues a graph, which reads the lengths and tables of this batch.</summary>
    /// <exception cref="ArgumentException">It was captured for another shape.</exception>
    public virtual void Replay(KvStepGraph graph) => throw WithoutGraphs();

    /// <summary>Enqueues the end of the batch, without waiting: nothing but <see cref="End"/> follows. From here on the stream is not touched any longer.</summary>
    public abstract void Finish();

    /// <summary>True once the work up to <see cref="Finish"/> has ended, as far as can be seen without waiting.</summary>
    public abstract bool HasFinished { get; }

    /// <summary>Waits for the work since <see cref="Begin"/>, which it finishes first if nobody has, and tells of the first element refused, if any.</summary>
    public abstract NonFinite? End();

    /// <summary>True if a page of <see cref="Seal"/> could not be written: its target is unspecified, its source stays as it is. To be asked after <see cref="End"/>.</summary>
    /// <param name="move">Which page, counted from 0 over all calls.</param>
    public abstract bool IsKept(int move);

    /// <inheritdoc/>
    public abstract void Dispose();

    private static NotSupportedException WithoutGraphs() => new("graphs are CUDA's");

    private protected static void ThrowIfWithoutStatistics(KernelShape shape)
    {
        if (!shape.HasStatistics)
        {
            throw new InvalidOperationException("expected a shape that keeps statistics, got one without");
        }
    }

    private protected static void ThrowIfNotObservable(int layer, int attended, int last)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(last, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(last, MaxObserved);
        if (layer != attended)
        {
            throw new InvalidOperationException($"expected layer {layer} to be attended to before it is observed, got layer {attended}");
        }
    }
}
