using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>Groups of 16 and 32, where trees and barriers do something; few cases, for the emulator runs each thread as a thread.</summary>
public sealed class PortableBarrierTests
{
    public static TheoryData<int, string> Cases
    {
        get
        {
            var cases = new TheoryData<int, string>();
            foreach (AttentionCase attended in AttentionGrid.Few)
            {
                cases.Add(attended.Index % 2 == 0 ? 16 : 32, attended.Name);
            }

            return cases;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Attention_equals_the_oracle_in_wide_groups(int groupSize, string name)
    {
        AttentionCase attended = AttentionGrid.Find(name);
        using var harness = new TierHarness((s, bytes) => Emulated.Tier(s, bytes, groupSize), attended.Shape, attended.Slots);
        HarnessSequence[] sequences =
            [.. attended.Parts.Select((p, i) => harness.Add(new SequenceData(attended.Geometry, p.History + p.Tokens, i)))];
        for (int i = 0; i < sequences.Length; i++)
        {
            harness.Fill(sequences[i], attended.Parts[i].History);
        }

        harness.Begin([.. sequences.Zip(attended.Parts, (s, part) => (s, part.Tokens))]);
        harness.Append(0);
        Expect.MatchesOracle(harness, 0, harness.Queries(0), harness.Attend(0), sequences);
        Assert.Null(harness.End());
    }

    [Theory]
    [InlineData(3)]
    [InlineData(16)]
    [InlineData(32)]
    public void Encoding_gives_the_same_bytes_in_any_group(int groupSize)
    {
        var geometry = new KvGeometry(1, 1, 1, 80, 48, pageTokens: 5);
        Assert.Equal(Sealed(geometry, 1), Sealed(geometry, groupSize));
    }

    private static byte[] Sealed(KvGeometry geometry, int groupSize)
    {
        using var harness = new TierHarness((s, bytes) => Emulated.Tier(s, bytes, groupSize), Shapes.Encoded(geometry, PageFormat.F16), 12, seed: 5);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 10, seed: 3));
        harness.Fill(sequence, 10);
        PageEntry first = sequence.Rows[0, 0][0];
        Assert.Equal(KernelShape.Sealed, first.PageClass);
        return harness.ReadBytes(first.Slot, first.PageClass);
    }
}
