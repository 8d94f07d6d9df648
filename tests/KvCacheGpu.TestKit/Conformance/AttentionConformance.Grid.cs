using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Attention over the grid equals the oracle on the decoded pages.</summary>
public abstract partial class AttentionConformance<TTier>
    where TTier : ITierUnderTest
{
    public static IEnumerable<object[]> Cases => TTier.Grid.Select(c => new object[] { c.Name });

    [Theory]
    [MemberData(nameof(Cases))]
    public void Attention_equals_the_oracle_on_the_decoded_pages(string name)
    {
        AttentionCase attended = AttentionGrid.Find(name);
        using var harness = new TierHarness(TTier.Create, attended.Shape, attended.Slots, seed: attended.Index);
        HarnessSequence[] sequences = [.. attended.Parts.Select((part, i) => harness.Add(Data(attended, part, i)))];
        for (int i = 0; i < sequences.Length; i++)
        {
            harness.Fill(sequences[i], attended.Parts[i].History);
        }

        harness.Begin(attended.Index % 3 == 0, [.. sequences.Zip(attended.Parts, (s, part) => (s, part.Tokens))]);
        for (int layer = 0; layer < attended.Geometry.Layers; layer++)
        {
            harness.Append(layer);
            Expect.MatchesOracle(harness, layer, harness.Queries(layer), harness.Attend(layer), sequences);
        }

        Assert.Null(harness.End());
    }

    private static SequenceData Data(AttentionCase attended, CasePart part, int sequence) => new(
        attended.Geometry, part.History + part.Tokens, (attended.Index * 10) + sequence, attended.Index / 3 % 2 == 0 ? KeyKind.Outliers : KeyKind.Plain);
}
