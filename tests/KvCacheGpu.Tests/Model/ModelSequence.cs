using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests;

/// <summary>What one page of one (layer, KV head) should be.</summary>
/// <param name="Class">Its page class.</param>
/// <param name="KeyEncodings">Lossy encodings that its keys went through.</param>
/// <param name="ValueEncodings">Lossy encodings that its values went through.</param>
/// <param name="KeyLoss">32 less the fewest bits of these; 0 of none.</param>
/// <param name="ValueLoss">The same of the values.</param>
internal readonly record struct ModelPage(int Class, int KeyEncodings, int ValueEncodings, int KeyLoss, int ValueLoss);

/// <summary>What a sequence should hold, as plain lists.</summary>
internal sealed class ModelSequence(KvSequence sequence, IEnumerable<int> tokens, IEnumerable<int> pages)
{
    public KvSequence Sequence { get; } = sequence;

    public List<int> Tokens { get; } = [.. tokens];

    /// <summary>Page indices that should be resident, ascending.</summary>
    public List<int> Pages { get; } = [.. pages];

    /// <summary>Pages by row and index.</summary>
    public Dictionary<(int Row, int Page), ModelPage> States { get; private init; } = [];

    /// <summary>Pages that are sealed, from the first on.</summary>
    public int SealedPages { get; set; }

    /// <summary>The least length that a cut to is exact: so many tokens below the longest that the sequence had, but not behind a cut that was not.</summary>
    public int ExactTo { get; private set; }

    private KvGeometry Geometry => Sequence.Cache.Geometry;

    private int P => Geometry.PageTokens;

    private int Rows => Geometry.Layers * Geometry.KvHeads;

    private int Rollback => Sequence.Cache.State.Options.ExactRollbackTokens;

    public ModelSequence ForkAs(KvSequence fork) => new(fork, Tokens, Pages) { SealedPages = SealedPages, ExactTo = ExactTo, States = new(States) };

    /// <summary>Appends tokens.</summary>
    /// <param name="ids">Tokens.</param>
    /// <param name="policy">What drops.</param>
    /// <param name="isKept">True if a row keeps a page of these tokens in full precision.</param>
    public void Append(ReadOnlySpan<int> ids, WindowPolicy? policy, Func<int, IEnumerable<int>, bool> isKept)
    {
        if (Tokens.Count % P != 0)
        {
            int tail = Tokens.Count / P;
            SealedPages = Math.Min(SealedPages, tail);
            ForRows(tail, (_, page) => page with { Class = KernelShape.Open });
        }

        foreach (int id in ids)
        {
            if (Tokens.Count % P == 0)
            {
                Pages.Add(Tokens.Count / P);
                ForRows(Tokens.Count / P, (_, _) => default);
            }

            Tokens.Add(id);
        }

        // A page is sealed once the tokens after it are as many as a rollback takes off.
        for (; (SealedPages + 1) * P <= Tokens.Count - Rollback; SealedPages++)
        {
            int page = SealedPages;
            int[] held = TokensOf(page);
            ForRows(page, (row, before) => isKept(row, held) ? before : Written(before, Sequence.Cache.State.Classes.SealedIn(row / Geometry.KvHeads)));
        }

        ExactTo = Math.Max(ExactTo, Tokens.Count - Rollback);
        if (policy is not null)
        {
            Pages.RemoveAll(page => page < SealedPages && page * P >= policy.SinkTokens && (page + 2) * P <= Tokens.Count - policy.WindowTokens);
        }
    }

    public KvTruncation Cut(int length)
    {
        int tail = length / P;
        if (length % P != 0 && !Pages.Contains(tail))
        {
            length = tail * P;
        }

        bool insideSealed = length < Tokens.Count && length % P != 0 && length / P < SealedPages;
        int reencoded = insideSealed ? Enumerable.Range(0, Rows).Count(row => IsReencoded(row, States[(row, tail)].Class)) : 0;
        ExactTo = Math.Min(ExactTo, length);
        Tokens.RemoveRange(length, Tokens.Count - length);
        Pages.RemoveAll(page => page * P >= length);
        SealedPages = Math.Min(SealedPages, (length + P - 1) / P);
        return new KvTruncation(length, reencoded);
    }

    /// <summary>True if the ladder lets a page go to a class, told in other words than the engine's.</summary>
    public bool MayDemote(int row, int page, int target)
    {
        PageClasses classes = Sequence.Cache.State.Classes;
        ModelPage now = States[(row, page)];
        (KvFormats from, KvFormats to) = (classes.FormatsOf(now.Class), classes.FormatsOf(target));
        return page < SealedPages && from != to && classes.MayBecome(row / Geometry.KvHeads, target)
            && IsStep(from.Key, to.Key, now.KeyEncodings) && IsStep(from.Value, to.Value, now.ValueEncodings);
    }

    public void Demote(int row, int page, int target) => States[(row, page)] = Written(States[(row, page)], target);

    /// <summary>Ids of the tokens of a page.</summary>
    public int[] TokensOf(int page) => [.. Tokens.Skip(page * P).Take(P)];

    private static bool IsStep(PageFormat from, PageFormat to, int encodings) => from == to || (encodings < 2 && (from, to) switch
    {
        (PageFormat.F32, _) => to != PageFormat.F32,
        (PageFormat.F16 or PageFormat.BF16, _) => !to.IsFullPrecision(),
        (PageFormat.I8, _) => to.ToString()[0] is 'T' or 'V',
        (PageFormat.T4, PageFormat.T3 or PageFormat.T2) or (PageFormat.T3, PageFormat.T2) => true,
        (PageFormat.V4, PageFormat.V3 or PageFormat.V2) or (PageFormat.V3, PageFormat.V2) => true,
        _ => false,
    });

    private bool IsReencoded(int row, int pageClass)
    {
        KvFormats now = Sequence.Cache.State.Classes.FormatsOf(pageClass);
        KvFormats then = Sequence.Cache.State.Options.FormatsOf(Geometry, row / Geometry.KvHeads);
        return (!now.Key.IsFullPrecision() && !then.Key.IsFullPrecision()) || (!now.Value.IsFullPrecision() && !then.Value.IsFullPrecision());
    }

    private ModelPage Written(ModelPage before, int target)
    {
        PageClasses classes = Sequence.Cache.State.Classes;
        (KvFormats from, KvFormats to) = (classes.FormatsOf(before.Class), classes.FormatsOf(target));
        return new ModelPage(
            target,
            before.KeyEncodings + Encodings(from.Key, to.Key),
            before.ValueEncodings + Encodings(from.Value, to.Value),
            Math.Max(before.KeyLoss, Encodings(from.Key, to.Key) * (32 - to.Key.BitsPerElement())),
            Math.Max(before.ValueLoss, Encodings(from.Value, to.Value) * (32 - to.Value.BitsPerElement())));
    }

    private static int Encodings(PageFormat from, PageFormat to) => from == to || to.IsFullPrecision() ? 0 : 1;

    private void ForRows(int page, Func<int, ModelPage, ModelPage> change)
    {
        for (int row = 0; row < Rows; row++)
        {
            States[(row, page)] = change(row, States.GetValueOrDefault((row, page)));
        }
    }
}
