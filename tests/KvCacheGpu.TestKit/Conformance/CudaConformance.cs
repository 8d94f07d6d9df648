using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Attention on tensor cores equals the oracle on the decoded pages, whatever the shape of the work.</summary>
public abstract class CudaConformance<TTier>
    where TTier : ITierUnderTest
{
    // Of a long chunk every 11th query token is compared, so that each place of a block of queries turns up.
    private const int Stride = 11;

    // Sequences of a batch whose data differ; the others have those of one of them and lengths of their own.
    private const int Data = 4;

    public static IEnumerable<object[]> Cases => TTier.CudaCases.Select(c => new object[] { c.Name });

    [Theory]
    [MemberData(nameof(Cases))]
    public void Tensor_cores_equal_the_oracle_on_the_decoded_pages(string name)
    {
        CudaCase attended = TTier.CudaCases.First(c => c.Name == name);
        KvGeometry geometry = attended.Geometry;
        CasePart[] parts = [.. attended.Parts];
        int longest = parts.Max(p => p.History + p.Tokens);
        int pages = geometry.PagesFor(longest);
        KernelShape shape = Shapes.Mixed(geometry, attended.Open, attended.Sealed.Key, attended.Sealed.Value, attended.Batch, pages + 1) with
        {
            HasStatistics = attended.HasStatistics,
            Precision = attended.Precision,
        };
        using var harness = new TierHarness((s, bytes) => Create(s, bytes, isSplit: attended.Border % 2 == 1), shape, parts.Sum(p => 2 + geometry.PagesFor(p.History + p.Tokens)) * 2 * geometry.KvHeads, seed: attended.Border);
        Assert.Empty(((PortableTier)harness.Tier).PortablePairs);
        SequenceData[] data = [.. Enumerable.Range(0, Math.Min(Data, attended.Batch)).Select(i => new SequenceData(
            geometry, parts.Where((_, part) => part % Data == i).Max(p => p.History + p.Tokens), (attended.Chunk * 10) + i, i % 2 == 0 ? KeyKind.Outliers : KeyKind.Plain))];
        HarnessSequence[] sequences = [.. parts.Select((_, i) => harness.Add(data[i % Data]))];
        for (int i = 0; i < parts.Length; i++)
        {
            harness.Fill(sequences[i], parts[i].History);
            if (attended.HasHole && parts[i].History > 2 * geometry.PageTokens)
            {
                harness.Drop(sequences[i], 1);
            }
        }

        harness.Begin(attended.Border % 2 == 0, [.. sequences.Zip(parts, (s, part) => (s, part.Tokens))]);
        harness.Append(0);
        Attention got = harness.Attend(0, attended.Window);
        Expect.MatchesOracleAt(harness, got, attended.Bound, attended.Window, Stride, sequences);
        Assert.Null(harness.End());
    }

    // Split rows are merged page by page; in others one warp goes from page to page, with a maximum that moves.
    private static PortableTier Create(KernelShape shape, long arenaBytes, bool isSplit)
    {
        var tier = (PortableTier)TTier.Create(shape, arenaBytes);
        tier.SegmentTokens = isSplit ? 1 : 8 * shape.Geometry.PageTokens;
        return tier;
    }
}
