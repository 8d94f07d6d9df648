using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>What an allocation is for.</summary>
public enum AllocationKind
{
    /// <summary>The arena: tables and page slots.</summary>
    Arena,

    /// <summary>Working memory of launches.</summary>
    Scratch,

    /// <summary>A page slot taken or given back inside the arena.</summary>
    Slot,

    /// <summary>Host-side bookkeeping.</summary>
    Bookkeeping,
}

/// <summary>Told of every allocation (positive bytes) and release (negative bytes) as it happens.</summary>
public delegate void AllocationObserver(AllocationKind kind, long bytes);

/// <summary>One page to be written from another: decoded, and encoded anew where the formats differ.</summary>
/// <param name="SourceSlot">Slot read.</param>
/// <param name="SourceClass">Its page class.</param>
/// <param name="TargetSlot">Slot written.</param>
/// <param name="TargetClass">Its page class.</param>
/// <param name="Tokens">Tokens that the page holds, from its first.</param>
/// <param name="ScoreWord">
/// First word of the page's scores, into which the mean square norms of the source's keys and values are written, also of a page that is
/// kept; they are no finite numbers where its elements are none. The default value is 0: not written.
/// </param>
public readonly record struct PageMove(int SourceSlot, int SourceClass, int TargetSlot, int TargetClass, int Tokens, int ScoreWord = 0);

/// <summary>One page to be decoded for <see cref="KernelTier.Materialize"/>.</summary>
/// <param name="Slot">Slot read.</param>
/// <param name="PageClass">Its page class.</param>
/// <param name="Tokens">Tokens to read, from the page's first.</param>
/// <param name="TargetVector">Where its first vector goes, in vectors from the start of the target.</param>
/// <param name="TargetStride">Vectors from one token to the next in the target.</param>
public readonly record struct PageRead(int Slot, int PageClass, int Tokens, int TargetVector, int TargetStride);

/// <summary>One sequence's part of a ragged launch.</summary>
/// <param name="Sequence">Its sequence slot in the tables.</param>
/// <param name="FirstToken">Its first token in the launch's tensors.</param>
/// <param name="Tokens">Its tokens in this launch, at least 1.</param>
/// <param name="Length">Its length in tokens once they are appended: the last of them has position Length - 1.</param>
/// <param name="KeepsStatistics">
/// Whether attention leaves the tables' page statistics and log-sum-exps as they are, so that it changes nothing. The default value is false:
/// they become those of the sequence's last token.
/// </param>
public readonly record struct RaggedSequence(int Sequence, int FirstToken, int Tokens, int Length, bool KeepsStatistics = false)
{
    /// <summary>The token in this launch whose statistics the tables receive; -1 where they keep what they have.</summary>
    internal int MeasuredToken => KeepsStatistics ? -1 : Tokens - 1;
}

/// <summary>Where an element was refused that no page format holds: a NaN, an infinity, or a value beyond a page format (<see cref="KernelShape.KeyRefusedFrom"/>).</summary>
/// <param name="Layer">Layer.</param>
/// <param name="Token">Token in the launch's tensors.</param>
/// <param name="Head">KV head.</param>
/// <param name="IsValue">In the values; else in the keys.</param>
public readonly record struct NonFinite(int Layer, int Token, int Head, bool IsValue);

/// <summary>
/// The memory of one cache on one device, and the kernels that work on it. Knows bytes, shapes and tables; no sequences' lives,
/// no policy. Batches of different sequences may be used from different threads at once; <see cref="Tables"/> rows belong to
/// the thread that owns the sequence.
/// </summary>
public abstract unsafe class KernelTier : IDisposable
{
    /// <summary>Sets what every tier shares.</summary>
    protected KernelTier(KernelShape shape, long arenaBytes)
    {
        ArgumentNullException.ThrowIfNull(shape);
        Shape = shape;
        Map = new TableMap(shape);
        if (arenaBytes < Map.Bytes || arenaBytes / PageLayout.UnitBytes > int.MaxValue)
        {
            throw new ArgumentOutOfRangeException(
                nameof(arenaBytes), arenaBytes, $"expected {Map.Bytes} bytes of tables at least, {(long)int.MaxValue * PageLayout.UnitBytes} at most");
        }

        ArenaBytes = arenaBytes;
    }

    /// <summary>What the tier was built for.</summary>
    public KernelShape Shape { get; }

    /// <summary>Where the tables lie.</summary>
    public TableMap Map { get; }

    /// <summary>Size of the arena: tables, then page slots.</summary>
    public long ArenaBytes { get; }

    /// <summary>The tier's name, as reports print it: "simd-512", "portable (cuda)".</summary>
    public abstract string Name { get; }

    /// <summary>The host's copy of the tables, <see cref="TableMap.TableWords"/> words; written through <see cref="Write"/>.</summary>
    public abstract int* Tables { get; }

    /// <summary>Writes a table word; the device sees it before the next launch reads it.</summary>
    public abstract void Write(int word, int value);

    /// <summary>Makes the working memory of one concurrent step; reused from step to step.</summary>
    /// <param name="maxSequences">Sequences in one launch, at most.</param>
    /// <param name="maxTokens">Tokens in one launch over all sequences, at most.</param>
    public abstract KernelBatch CreateBatch(int maxSequences, int maxTokens);

    /// <summary>
    /// Writes pages from pages. Sources and targets are disjoint, or equal where both classes have one layout: such a page is sealed
    /// where it lies. What the target holds beyond a move's tokens is unspecified. A decoded element beyond the target's largest number
    /// (a rounding error's width, since append refuses more) becomes that number. A target that has a digest gets that of the source's keys;
    /// pages of one layout that are sealed already keep theirs, bit for bit.
    /// </summary>
    /// <param name="moves">The pages.</param>
    /// <param name="kept">
    /// Set for each move whose target cannot hold the page (an element that is no finite number, a scale beyond binary16): its target
    /// is unspecified, its source stays as it is. Pages of one layout in different slots are copied whatever they hold.
    /// Asking waits for the device. The default value is empty: not asked.
    /// </param>
    public abstract void Transcode(ReadOnlySpan<PageMove> moves, Span<bool> kept = default);

    /// <summary>Decodes pages, back in the plain basis: keys as vectors of the key width, values of the value width. Either target may be empty.</summary>
    public abstract void Materialize(ReadOnlySpan<PageRead> reads, Span<float> keys, Span<float> values);

    /// <summary>
    /// Sets the scores of all pages of a sequence slot to 0. Appending a page's first token does so for that page; this is for a sequence
    /// that begins with pages which it did not append.
    /// </summary>
    public abstract void ClearScores(int sequence);

    /// <summary>Copies words of the arena to the host.</summary>
    public abstract void Read(long word, Span<int> target);

    /// <summary>Copies words from the host into the arena.</summary>
    public abstract void Load(long word, ReadOnlySpan<int> source);

    /// <summary>Waits for everything that was enqueued.</summary>
    public abstract void Synchronize();

    /// <inheritdoc/>
    public abstract void Dispose();
}

/// <summary>The launches of one step: append and attend over a ragged batch, layer by layer. Used by one thread at a time.</summary>
public abstract class KernelBatch : IDisposable
{
    /// <summary>Tokens of each sequence that <see cref="Observe"/> takes, at most.</summary>
    public const int MaxObserved = 64;

    /// <summary>Bytes of working memory held; does not grow with the length of sequences.</summary>
    public abstract long ScratchBytes { get; }

    /// <summary>
    /// Sets the batch of the launches that follow. The tables already list, for every layer and head, pages up to each
    /// sequence's length.
    /// </summary>
    public abstract void Begin(ReadOnlySpan<RaggedSequence> sequences);

    /// <summary>Writes the batch's keys <c>[tokens][KV heads][key width]</c> and values into the open pages of a layer.</summary>
    public abstract void Append(int layer, KvTensor keys, KvTensor values);

    /// <summary>
    /// Causal attention of queries <c>[tokens][query heads][key width]</c>, scaled by 1/sqrt(key width), over the pages of a layer.
    /// Writes <c>output[tokens][query heads][value width]</c>, and for each sequence's last token the page statistics and log-sum-exp of
    /// the tables (not where <see cref="RaggedSequence.KeepsStatistics"/>).
    /// </summary>
    /// <remarks>
    /// Whatever is finite, in queries, keys and values alike, gives finite output. A logit is within 1e-6 of |q| |k| / sqrt(key width) of the
    /// exact one: so the output equals a float64 oracle's within 1e-5 of its norm where logits are up to a few tens, and where they are
    /// larger, the token that wins by more than that error has all the weight, and tokens nearer to it may share it. Where the key format of
    /// all classes is F32 or BF16, an element of a query counts as 0 where it is below 2^-138 of the largest. Stored logits and
    /// log-sum-exps beyond binary32 are its largest number.
    /// </remarks>
    /// <param name="layer">Layer.</param>
    /// <param name="queries">Queries.</param>
    /// <param name="output">Output, dense.</param>
    /// <param name="logSumExp">Natural log-sum-exp of each <c>[token][query head]</c>, or empty.</param>
    /// <param name="window">A token sees itself and the <c>window - 1</c> positions before it. The default value is 0: all before it.</param>
    public abstract void Attend(int layer, KvTensor queries, Span<float> output, Span<float> logSumExp, int window = 0);

    /// <summary>The same with the output left on the device.</summary>
    /// <exception cref="NotSupportedException">The tier works in host memory.</exception>
    public abstract void Attend(int layer, KvTensor queries, ArrayView<float> output, ArrayView<float> logSumExp, int window = 0);

    /// <summary>
    /// Adds what the last tokens of each sequence attended to, page by page, to <see cref="TableMap.ScoreWindow"/>: each token's mass, the
    /// mean over the query heads of the group. One pass over the keys. Follows the <see cref="Attend(int, KvTensor, Span{float}, Span{float}, int)"/>
    /// of the same layer and queries, whose log-sum-exps and window it goes by.
    /// </summary>
    /// <param name="layer">Layer that was attended to last.</param>
    /// <param name="queries">Its queries.</param>
    /// <param name="last">Tokens of each sequence that count, from its last back; 1 to <see cref="MaxObserved"/>. Those of earlier steps do not.</param>
    /// <exception cref="InvalidOperationException">Another layer was attended to last.</exception>
    public abstract void Observe(int layer, KvTensor queries, int last);

    /// <summary>
    /// Brings the scores of all pages of the batch's sequences up to date with what each sequence's last query attended to, in the layers
    /// that were attended to since <see cref="Begin"/>. Once a step, after its last Attend.
    /// </summary>
    /// <param name="decay">What mass and peak are multiplied by before the step's are taken in.</param>
    /// <param name="step">The number of the step, for <see cref="TableMap.ScoreLastUsed"/>.</param>
    public abstract void Score(float decay, int step);

    /// <summary>Waits for the launches since <see cref="Begin"/> and tells of the first element refused, if any.</summary>
    public abstract NonFinite? End();

    /// <inheritdoc/>
    public abstract void Dispose();

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
