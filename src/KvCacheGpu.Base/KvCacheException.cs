using System.Globalization;

namespace KvCacheGpu;

/// <summary>
/// The base of all errors that have a code. A code stays the same from version to version and has one meaning. The message says what was expected
/// and what was there; numbers that it names can be read from properties too.
/// </summary>
/// <remarks>
/// Errors of the calling code have no code: an argument that no cache takes is an <see cref="ArgumentException"/> or a child of it, a call on a disposed
/// object an <see cref="ObjectDisposedException"/>.
/// </remarks>
public abstract class KvCacheException : Exception
{
    private protected KvCacheException(string code, string what, string expected, string actual, Exception? inner = null)
        : base($"{code}: {what}: expected {expected}, got {actual}", inner)
    {
        (Code, Resource, Expected, Actual) = (code, what, expected, actual);
    }

    private protected KvCacheException(string code, string sentence, string what, string expected, string actual, Exception? inner)
        : base($"{code}: {sentence}", inner)
    {
        (Code, Resource, Expected, Actual) = (code, what, expected, actual);
    }

    /// <summary>The error's code, "E001".</summary>
    public string Code { get; }

    /// <summary>The thing that is missing, damaged or refused, as the message names it: "a step", "generation 3 of 'a'".</summary>
    public string Resource { get; }

    /// <summary>What the cache needed, in words.</summary>
    public string Expected { get; }

    /// <summary>What it met, in words.</summary>
    public string Actual { get; }

    /// <summary>How much was needed, in <see cref="Unit"/>s. The default value is null: the error is not about an amount.</summary>
    public long? Needed { get; init; }

    /// <summary>How much of it was free, in <see cref="Unit"/>s; at least 0. The default value is null: the error is not about an amount.</summary>
    public long? Free { get; init; }

    /// <summary>What <see cref="Needed"/> and <see cref="Free"/> count: "bytes", "tokens". The default value is null: the error is not about an amount.</summary>
    public string? Unit { get; init; }

    /// <summary>Name of the sequence that the error is about. The default value is null: it is about none, or about one without a name.</summary>
    public string? Sequence { get; init; }
}

/// <summary>
/// E001: there is no room: in the memory budget, for one more sequence, in one sequence, or in a tenant's quota. <see cref="Shortage"/> says which of them, and
/// how much is missing. Nothing has changed. It may help to dispose or truncate a sequence, or to take a smaller step.
/// </summary>
public sealed class KvOutOfMemoryException : KvCacheException
{
    /// <summary>An error that says how much is missing.</summary>
    /// <param name="shortage">What is missing.</param>
    /// <param name="inner">The error that it follows from, or null.</param>
    public KvOutOfMemoryException(KvShortage shortage, Exception? inner = null)
        : base("E001", $"{shortage}", shortage.What, $"at most {shortage.Free} {shortage.Unit}", $"{shortage.Needed} {shortage.Unit}", inner)
    {
        Shortage = shortage;
        (Needed, Free, Unit) = (shortage.Needed, shortage.Free, shortage.Unit);
    }

    /// <summary>What the call needed, and what was free.</summary>
    public KvShortage Shortage { get; }

    /// <summary>True if only working memory is missing, which another step holds: the same call can succeed once that step has ended.</summary>
    public bool IsTransient => Shortage.IsTransient;
}

/// <summary>E002: there is no snapshot, store, file or key of that name.</summary>
/// <param name="what">What was asked for.</param>
/// <param name="expected">What should be there.</param>
/// <param name="actual">What is there.</param>
/// <param name="inner">The error that it follows from, or null.</param>
public sealed class KvSnapshotNotFoundException(string what, string expected, string actual, Exception? inner = null)
    : KvCacheException("E002", what, expected, actual, inner);

/// <summary>E003: a configuration of which no cache can be made. Where a budget is too small, <see cref="KvCacheException.Needed"/> is the least that works.</summary>
/// <inheritdoc cref="KvSnapshotNotFoundException" path="/param"/>
public sealed class KvConfigurationException(string what, string expected, string actual, Exception? inner = null)
    : KvCacheException("E003", what, expected, actual, inner)
{
    /// <summary>The setting, "MaxTokens", or what else is meant.</summary>
    public string Setting => Resource;
}

/// <summary>E004: stored bytes are not the ones that were written: altered, cut short, or made up. None of them was used.</summary>
/// <inheritdoc cref="KvSnapshotNotFoundException" path="/param"/>
public sealed class KvCorruptionException(string what, string expected, string actual, Exception? inner = null)
    : KvCacheException("E004", what, expected, actual, inner);

/// <summary>
/// E004: keys or values held a NaN, an infinity, or a number beyond what the page formats hold. The step was rolled back; the sequences are as before it began.
/// </summary>
public sealed class KvNonFiniteException : KvCacheException
{
    private readonly float _largest;

    /// <summary>An error about one element.</summary>
    /// <param name="layer">Its layer.</param>
    /// <param name="token">Its token, as <see cref="Token"/> counts.</param>
    /// <param name="head">Its KV head, counted from the first held here.</param>
    /// <param name="isValue">True for an element of the values, false for one of the keys.</param>
    /// <param name="largest">Magnitudes below this one are taken.</param>
    /// <param name="sequence">Name of its sequence, or null.</param>
    public KvNonFiniteException(int layer, int token, int head, bool isValue, float largest, string? sequence = null)
        : base(
            "E004",
            $"{(sequence is null ? string.Empty : $"sequence '{sequence}', ")}{(isValue ? "value" : "key")} of layer {layer}, token {token}, KV head {head}",
            string.Create(CultureInfo.InvariantCulture, $"finite numbers below {largest:g9} in magnitude, as the page formats hold"),
            "a NaN, an infinity, or an overflow")
    {
        (Layer, Token, Head, IsValue, Sequence) = (layer, token, head, isValue, sequence);
        _largest = largest;
    }

    /// <summary>Layer of the first element refused.</summary>
    public int Layer { get; }

    /// <summary>
    /// Its token, counted from the first of the step that was refused, over all its sequences, the first sequence's first; from the first of the sequence where a file was
    /// being loaded.
    /// </summary>
    public int Token { get; }

    /// <summary>Its KV head, counted from the first held here.</summary>
    public int Head { get; }

    /// <summary>True if the element lay in the values, false if in the keys.</summary>
    public bool IsValue { get; }

    /// <summary>The same error about a named sequence, its token counted from the first of the sequence.</summary>
    /// <param name="sequence">Name of the sequence.</param>
    /// <param name="firstToken">Tokens of the sequence before the step.</param>
    public KvNonFiniteException In(string sequence, int firstToken) => new(Layer, firstToken + Token, Head, IsValue, _largest, sequence);

    /// <summary>The same error, told by a part of a model: its layer and KV head are counted over the whole model.</summary>
    /// <param name="firstLayer">The part's first layer.</param>
    /// <param name="firstHead">The part's first KV head.</param>
    public KvNonFiniteException OfPart(int firstLayer, int firstHead) => new(firstLayer + Layer, Token, firstHead + Head, IsValue, _largest, Sequence);
}

/// <summary>E005: the disk refused: full, failing, not permitted. What was stored before is as it was, unless <see cref="OutcomeUnknown"/>.</summary>
/// <param name="what">What was to be stored or read.</param>
/// <param name="expected">What should have happened.</param>
/// <param name="actual">What happened.</param>
/// <param name="inner">The error that it follows from, or null.</param>
/// <param name="outcomeUnknown">True if the change may have been made all the same.</param>
public sealed class KvPersistenceException(string what, string expected, string actual, Exception? inner = null, bool outcomeUnknown = false)
    : KvCacheException("E005", what, expected, actual, inner)
{
    /// <summary>
    /// True if readers may find the old state or the new one, each whole, and it is not known which. Either the very last sync failed, so that readers see the
    /// change now and a power loss may take it back; or the one step that makes the change reported an error, and nothing could be read about it.
    /// </summary>
    public bool OutcomeUnknown { get; } = outcomeUnknown;
}

/// <summary>E006: a sequence or step is in use by another thread at this moment, or by a step that has not ended. Nothing has changed.</summary>
/// <inheritdoc cref="KvSnapshotNotFoundException" path="/param"/>
public sealed class KvConcurrencyException(string what, string expected, string actual, Exception? inner = null)
    : KvCacheException("E006", what, expected, actual, inner);

/// <summary>E006: another process or store is writing there. Nothing has changed; trying again later may help.</summary>
/// <inheritdoc cref="KvSnapshotNotFoundException" path="/param"/>
public sealed class KvStoreBusyException(string what, string expected, string actual, Exception? inner = null)
    : KvCacheException("E006", what, expected, actual, inner);

/// <summary>E007: written by a later version of this library. The files are untouched.</summary>
/// <inheritdoc cref="KvSnapshotNotFoundException" path="/param"/>
public sealed class KvNewerVersionException(string what, string expected, string actual, Exception? inner = null)
    : KvCacheException("E007", what, expected, actual, inner);

/// <summary>E009: this device, format or policy does not offer what was asked.</summary>
/// <inheritdoc cref="KvSnapshotNotFoundException" path="/param"/>
public sealed class KvUnsupportedException(string what, string expected, string actual, Exception? inner = null)
    : KvCacheException("E009", what, expected, actual, inner);

/// <summary>
/// E010: calls came out of order: a layer before its turn, attention before its append, a commit before the last layer, any call on a step that was never
/// begun. Nothing has changed; an open step can go on.
/// </summary>
/// <inheritdoc cref="KvSnapshotNotFoundException" path="/param"/>
public sealed class KvStepOrderException(string what, string expected, string actual, Exception? inner = null)
    : KvCacheException("E010", what, expected, actual, inner);
