using System.Runtime.CompilerServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// What a policy sees of one sequence: every page that could go or shrink, row by row; the compact copy of what kernels scored. A row is
/// a (layer, KV head), layer-major. One element per page unless its shape says otherwise; a span that nobody asked for is empty.
/// </summary>
public readonly ref struct KvPages
{
    /// <summary>Describes a sequence's pages.</summary>
    /// <param name="geometry">Shape of the model.</param>
    /// <param name="length">Tokens of the sequence, dropped ones counted.</param>
    /// <param name="rowStarts">[rows + 1] pages of row r are rowStarts[r] .. rowStarts[r + 1] - 1.</param>
    /// <param name="pageIndex">Each page's first position / page tokens, ascending within a row.</param>
    /// <exception cref="ArgumentException">The rows do not match the geometry or the pages.</exception>
    public KvPages(KvGeometry geometry, int length, ReadOnlySpan<int> rowStarts, ReadOnlySpan<int> pageIndex)
    {
        ArgumentNullException.ThrowIfNull(geometry);
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        int rows = geometry.Layers * geometry.KvHeads;
        if (rowStarts.Length != rows + 1 || rowStarts[0] != 0 || rowStarts[rows] != pageIndex.Length)
        {
            throw new ArgumentException($"expected {rows + 1} row starts from 0 to {pageIndex.Length}", nameof(rowStarts));
        }

        (Geometry, Length) = (geometry, length);
        RowStarts = rowStarts;
        PageIndex = pageIndex;
    }

    /// <summary>Shape of the model.</summary>
    public KvGeometry Geometry { get; }

    /// <summary>Tokens of the sequence, dropped ones counted.</summary>
    public int Length { get; }

    /// <summary>Steps committed.</summary>
    public long Step { get; init; }

    /// <summary>
    /// Steps whose masses <see cref="Mass"/> sums up; each gave all the tokens of a row together 1, listed here or not. 0: unknown, and a
    /// mass is then measured by the largest row's sum.
    /// </summary>
    public long Samples { get; init; }

    /// <summary>[rows + 1] where each row's pages begin.</summary>
    public ReadOnlySpan<int> RowStarts { get; }

    /// <summary>First position / page tokens, ascending within a row.</summary>
    public ReadOnlySpan<int> PageIndex { get; }

    /// <summary>A &lt;- lambda A + mean over the GQA group of the page's share of attention, with lambda of <see cref="KvPolicy.Decay"/>, per sampled step.</summary>
    public ReadOnlySpan<float> Mass { get; init => field = PerPage(value); }

    /// <summary>M &lt;- max(lambda M, largest token's share), per sampled step.</summary>
    public ReadOnlySpan<float> Peak { get; init => field = PerPage(value); }

    /// <summary>Share of the last query's attention, mean over the GQA group.</summary>
    public ReadOnlySpan<float> LastMass { get; init => field = PerPage(value); }

    /// <summary>Sum of the shares of the last W queries of the latest prefill, 0 for pages that came after it.</summary>
    public ReadOnlySpan<float> WindowMass { get; init => field = PerPage(value); }

    /// <summary>Step in which the page's share was last at or above its fair one (tokens of the page / resident tokens).</summary>
    public ReadOnlySpan<int> LastUsed { get; init => field = PerPage(value); }

    /// <summary>How many steps that was so.</summary>
    public ReadOnlySpan<int> Uses { get; init => field = PerPage(value); }

    /// <summary>What the page is stored as now: an index into <see cref="Ladder"/>.</summary>
    public ReadOnlySpan<byte> Class { get; init => field = PerPage(value); }

    /// <summary>Bytes that dropping the page frees: 0 while others share it. Empty: all 0.</summary>
    public ReadOnlySpan<int> Bytes { get; init => field = PerPage(value); }

    /// <summary>Sinks, recent window, pinned, kept by the engine: never to be touched. Empty: none.</summary>
    public ReadOnlySpan<bool> Fixed { get; init => field = PerPage(value); }

    /// <summary>Written anew once already: may be dropped, not demoted again. Empty: none.</summary>
    public ReadOnlySpan<bool> Demoted { get; init => field = PerPage(value); }

    /// <summary>[pages][key width] mean of the page's keys in the plain basis.</summary>
    public ReadOnlySpan<float> KeyMean { get; init => field = Checked(value, (long)PageIndex.Length * Geometry.KeyWidth); }

    /// <summary>Mean |k|^2 of the page's tokens.</summary>
    public ReadOnlySpan<float> KeySquare { get; init => field = PerPage(value); }

    /// <summary>Mean |v|^2 of the page's tokens.</summary>
    public ReadOnlySpan<float> ValueSquare { get; init => field = PerPage(value); }

    /// <summary>[rows] running mean of |q|^2.</summary>
    public ReadOnlySpan<float> QuerySquare { get; init => field = Checked(value, Rows); }

    /// <summary>[rows] running mean of |o|^2, o being one head's attention output.</summary>
    public ReadOnlySpan<float> OutputSquare { get; init => field = Checked(value, Rows); }

    /// <summary>
    /// [rows][key width] mean of past queries over the GQA group, taken before rope and rotated by the mean of the rotations of the
    /// positions to come: what a key of the plain basis (roped at its own position) meets.
    /// </summary>
    public ReadOnlySpan<float> FutureQueryMean { get; init => field = Checked(value, (long)Rows * Geometry.KeyWidth); }

    /// <summary>[rows][key width] diagonal of the same queries' covariance, rotated likewise.</summary>
    public ReadOnlySpan<float> FutureQueryVariance { get; init => field = Checked(value, (long)Rows * Geometry.KeyWidth); }

    /// <summary>Per class: bytes, errors, and what it may be demoted to. Empty: nothing is demoted.</summary>
    public ReadOnlySpan<KvRung> Ladder { get; init; }

    /// <summary>Positions at which segments (system prompt, turns) begin, ascending; one begins at 0 anyway. Empty: one segment.</summary>
    public ReadOnlySpan<int> SegmentStarts { get; init; }

    /// <summary>Rows: layers * KV heads.</summary>
    public int Rows => RowStarts.Length - 1;

    /// <summary>Pages listed.</summary>
    public int Count => PageIndex.Length;

    /// <summary>Position of a page's first token.</summary>
    public long FirstPosition(int page) => (long)PageIndex[page] * Geometry.PageTokens;

    /// <summary>Whether a page may not be touched.</summary>
    public bool IsFixed(int page) => !Fixed.IsEmpty && Fixed[page];

    /// <summary>Whether dropping a page is allowed and frees bytes.</summary>
    public bool IsVictim(int page) => !IsFixed(page) && !Bytes.IsEmpty && Bytes[page] > 0;

    internal static void Require<T>(ReadOnlySpan<T> statistic, int count, string policy, [CallerArgumentExpression(nameof(statistic))] string name = "")
    {
        if (statistic.Length < count)
        {
            throw new KvUnsupportedException($"policy {policy}", $"{name[(name.LastIndexOf('.') + 1)..]} of every page or row", "none: nothing gathers it");
        }
    }

    private ReadOnlySpan<T> PerPage<T>(ReadOnlySpan<T> value, [CallerMemberName] string name = "") => Checked(value, PageIndex.Length, name);

    private static ReadOnlySpan<T> Checked<T>(ReadOnlySpan<T> value, long count, [CallerMemberName] string name = "") =>
        value.IsEmpty || value.Length == count ? value : throw new ArgumentException($"expected {count} elements, got {value.Length}", name);
}
