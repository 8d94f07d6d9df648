using System.Runtime.CompilerServices;

namespace KvCacheGpu;

/// <summary>
/// The pages of one sequence that a policy may drop or demote, row by row, with the statistics that kernels gathered. A row is a
/// (layer, KV head), layer-major. Each span has one element per page unless its shape says otherwise; a statistic that nobody asked for is empty.
/// </summary>
/// <remarks>Thread safety: it stays on the stack of the thread that plans, and its memory is only that call's.</remarks>
public readonly ref struct KvPages
{
    /// <summary>Describes a sequence's pages.</summary>
    /// <param name="geometry">Shape of the model.</param>
    /// <param name="length">Number of tokens of the sequence, dropped ones counted.</param>
    /// <param name="rowStarts">[rows + 1] the pages of row r are rowStarts[r] .. rowStarts[r + 1] - 1.</param>
    /// <param name="pageIndex">Each page's first position divided by page tokens, ascending within a row.</param>
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

    /// <summary>Number of tokens of the sequence, dropped ones counted.</summary>
    public int Length { get; }

    /// <summary>Number of steps committed.</summary>
    public long Step { get; init; }

    /// <summary>
    /// Number of steps whose masses <see cref="Mass"/> sums up; each step gave the tokens of a row a mass of 1 in all, whether they are listed here
    /// or not. 0 if the number is unknown: a mass is then measured by the largest row's sum.
    /// </summary>
    public long Samples { get; init; }

    /// <summary>[rows + 1] the first page of each row, and the number of pages.</summary>
    public ReadOnlySpan<int> RowStarts { get; }

    /// <summary>First position divided by page tokens, ascending within a row.</summary>
    public ReadOnlySpan<int> PageIndex { get; }

    /// <summary>A &lt;- lambda A + mean over the GQA group of the page's share of attention, with lambda of <see cref="KvPolicy.Decay"/>, per sampled step.</summary>
    public ReadOnlySpan<float> Mass { get; init => field = PerPage(value); }

    /// <summary>M &lt;- max(lambda M, largest token's share), per sampled step.</summary>
    public ReadOnlySpan<float> Peak { get; init => field = PerPage(value); }

    /// <summary>Share of the last query's attention, mean over the GQA group.</summary>
    public ReadOnlySpan<float> LastMass { get; init => field = PerPage(value); }

    /// <summary>Sum of the shares of the last W queries of the latest prefill; 0 for pages that came after it.</summary>
    public ReadOnlySpan<float> WindowMass { get; init => field = PerPage(value); }

    /// <summary>The last step in which the page's share was at or above its fair share (tokens of the page divided by resident tokens).</summary>
    public ReadOnlySpan<int> LastUsed { get; init => field = PerPage(value); }

    /// <summary>Number of steps in which the page's share was at or above its fair share.</summary>
    public ReadOnlySpan<int> Uses { get; init => field = PerPage(value); }

    /// <summary>The class in which the page is stored now: an index into <see cref="Ladder"/>.</summary>
    public ReadOnlySpan<byte> Class { get; init => field = PerPage(value); }

    /// <summary>Bytes that dropping the page frees; 0 while others share it. Empty if all are 0.</summary>
    public ReadOnlySpan<int> Bytes { get; init => field = PerPage(value); }

    /// <summary>True for pages that must stay as they are: sinks, the recent window, pinned pages, and pages that the engine keeps. Empty if there are none.</summary>
    public ReadOnlySpan<bool> Fixed { get; init => field = PerPage(value); }

    /// <summary>True for pages that were demoted before: they may be dropped, but not demoted again. Empty if there are none.</summary>
    public ReadOnlySpan<bool> Demoted { get; init => field = PerPage(value); }

    /// <summary>[pages][key width] mean of the page's keys, in the basis in which they were appended.</summary>
    public ReadOnlySpan<float> KeyMean { get; init => field = Checked(value, (long)PageIndex.Length * Geometry.KeyWidth); }

    /// <summary>Mean |k|^2 of the page's tokens.</summary>
    public ReadOnlySpan<float> KeySquare { get; init => field = PerPage(value); }

    /// <summary>Mean |v|^2 of the page's tokens.</summary>
    public ReadOnlySpan<float> ValueSquare { get; init => field = PerPage(value); }

    /// <summary>[rows] running mean of |q|^2.</summary>
    public ReadOnlySpan<float> QuerySquare { get; init => field = Checked(value, Rows); }

    /// <summary>[rows] running mean of |o|^2, where o is one head's attention output.</summary>
    public ReadOnlySpan<float> OutputSquare { get; init => field = Checked(value, Rows); }

    /// <summary>
    /// [rows][key width] mean of past queries over the GQA group, taken before rope and then rotated by the mean of the rotations of the
    /// positions to come, so that it can be compared with <see cref="KeyMean"/>, whose keys are roped at their own positions.
    /// </summary>
    public ReadOnlySpan<float> FutureQueryMean { get; init => field = Checked(value, (long)Rows * Geometry.KeyWidth); }

    /// <summary>[rows][key width] diagonal of the same queries' covariance, rotated in the same way.</summary>
    public ReadOnlySpan<float> FutureQueryVariance { get; init => field = Checked(value, (long)Rows * Geometry.KeyWidth); }

    /// <summary>One entry per class: its bytes, its errors, and the classes that its pages may be demoted to. Empty if nothing is demoted.</summary>
    public ReadOnlySpan<KvRung> Ladder { get; init; }

    /// <summary>Bytes of pages that find room in host memory when they are let go, where attention goes on reading them (<see cref="KvCacheOptions.Offload"/>); 0 if they are lost.</summary>
    public long OffloadBytes { get; init; }

    /// <summary>Positions at which segments (system prompt, turns) begin, ascending; one always begins at 0. Empty if there is only one segment.</summary>
    public ReadOnlySpan<int> SegmentStarts { get; init; }

    /// <summary>Number of rows: layers * KV heads.</summary>
    public int Rows => RowStarts.Length - 1;

    /// <summary>Number of pages listed.</summary>
    public int Count => PageIndex.Length;

    /// <summary>Position of a page's first token.</summary>
    public long FirstPosition(int page) => (long)PageIndex[page] * Geometry.PageTokens;

    /// <summary>True if a page must stay as it is.</summary>
    public bool IsFixed(int page) => !Fixed.IsEmpty && Fixed[page];

    /// <summary>True if a page may be dropped and dropping it frees bytes.</summary>
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

/// <summary>One class in which pages are stored, and the error that a page takes on when it becomes that.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Bytes">Bytes of a page.</param>
/// <param name="KeyError">Normalised squared error of keys (NMSE, |k - k'|^2 / |k|^2) that encoding into this class adds.</param>
/// <param name="ValueError">Normalised squared error of values that encoding into this class adds.</param>
/// <param name="DemotesTo">Classes that a page of this class may be demoted to: bit c stands for class c.</param>
public readonly record struct KvRung(int Bytes, float KeyError, float ValueError, int DemotesTo);
