using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Runtime;
using KvCacheGpu.TestKit;
using Xunit.Abstractions;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>Features of the portable tier alone: device tensors, waves, patches, memory.</summary>
public sealed unsafe class PortableTierTests(ITestOutputHelper output)
{
    private static readonly KvGeometry Small = new(layers: 1, queryHeads: 4, kvHeads: 2, keyWidth: 48, valueWidth: 64, pageTokens: 5);

    [Theory]
    [InlineData(TensorType.F32)]
    [InlineData(TensorType.F16)]
    [InlineData(TensorType.BF16)]
    public void Device_tensors_of_any_type_and_stride_give_what_host_tensors_give(TensorType type)
    {
        const int Tokens = 7;
        KernelShape shape = Shapes.Encoded(Small, PageFormat.F32);
        var data = new SequenceData(Small, Tokens, seed: 1);
        using var harness = new TierHarness((s, bytes) => Emulated.Tier(s, bytes, 2), shape, 40);
        HarnessSequence sequence = harness.Add(data);
        harness.Begin((sequence, Tokens));
        float[] keys = Rounded(harness.Keys(0), type);
        float[] values = Rounded(harness.Values(0), type);
        float[] queries = Rounded(harness.Queries(0), type);
        harness.Append(0, keys, values);
        float[] expected = harness.Attend(0, queries).Output;
        byte[] page = harness.ReadBytes(sequence.Rows[0, 1][1].Slot, KernelShape.Open);

        Accelerator accelerator = Emulated.For(2);
        using MemoryBuffer1D<byte, Stride1D.Dense> k = Upload(accelerator, keys, type, 2, 48, 130, 60);
        using MemoryBuffer1D<byte, Stride1D.Dense> v = Upload(accelerator, values, type, 2, 64, 140, 70);
        using MemoryBuffer1D<byte, Stride1D.Dense> q = Upload(accelerator, queries, type, 4, 48, 250, 50);
        KernelTier tier = harness.Tier;
        using KernelBatch batch = tier.CreateBatch(1, 16);
        using MemoryBuffer1D<float, Stride1D.Dense> result = accelerator.Allocate1D<float>(expected.Length);
        batch.Begin(harness.Ragged);
        batch.Append(0, Tensor(k, type, 130, 60), Tensor(v, type, 140, 70));
        batch.Attend(0, Tensor(q, type, 250, 50), result.View.AsContiguous());
        Assert.Null(batch.End());
        Assert.Equal(expected, result.GetAsArray1D());
        int real = 48 * 5 * 4;
        Assert.Equal(page[..real], harness.ReadBytes(sequence.Rows[0, 1][1].Slot, KernelShape.Open)[..real]);
    }

    [Fact]
    public void Waves_do_not_change_a_bit_and_segments_do_not_change_the_result()
    {
        float[] whole = Prefill(partialFloats: 1 << 20, segmentTokens: 10, out long wide);
        Assert.Equal(whole, Prefill(partialFloats: 0, segmentTokens: 10, out long narrow));
        Assert.True(narrow < wide, $"{narrow} bytes in waves, {wide} at once");
        double[] expected = [.. whole.Select(x => (double)x)];
        Expect.Near(expected, Prefill(1 << 20, 5, out _), Expect.Bound, "segments of one page");
        Expect.Near(expected, Prefill(1 << 20, 1000, out _), Expect.Bound, "one segment");
    }

    [Fact]
    public void Rows_of_more_pages_than_segments_equal_the_oracle()
    {
        var geometry = new KvGeometry(1, 2, 1, 8, pageTokens: 1);
        KernelShape shape = Shapes.Mixed(
            geometry, PageFormat.F32, PageFormat.I8, PageFormat.F32, capacity: 256);
        using var harness = new TierHarness(
            (s, bytes) => new PortableTier(Emulated.For(2), s, bytes, 1) { SegmentTokens = 1 }, shape, 500);
        HarnessSequence sequence = harness.Add(new SequenceData(geometry, 202, seed: 4));
        harness.Fill(sequence, 62);
        foreach (int tokens in new[] { 6, 60, 70, 4 })
        {
            // The steps reach across 64 and 128 pages, where segments widen and become fewer.
            harness.Begin((sequence, tokens));
            harness.Append(0);
            Expect.MatchesOracle(harness, 0, harness.Queries(0), harness.Attend(0), sequence);
            harness.Seal(sequence);
        }
    }

    [Fact]
    public void More_patches_than_the_log_holds_reach_the_device_and_the_last_value_wins()
    {
        KernelShape shape = Shapes.Plain(Small, PageFormat.F16, sequences: 8, capacity: 1100);
        var map = new TableMap(shape);
        int leaves = shape.Sequences * map.Leaves;
        int Slot(int leaf) => map.FirstPageUnit + (leaf * map.LeafUnits);
        using PortableTier tier = Emulated.Tier(shape, map.Bytes + (leaves * map.LeafBytes), 2);
        for (int leaf = 0; leaf < leaves; leaf++)
        {
            tier.OpenLeaf(leaf / map.Leaves, leaf % map.Leaves, Slot(leaf));
        }

        int rows = shape.Sequences * map.Rows;
        for (int pass = 1; pass <= 2; pass++)
        {
            for (int row = 0; row < rows; row++)
            {
                tier.WriteCount(row / map.Rows, row % map.Rows, row * pass);
                for (int entry = 0; entry < shape.TableCapacity; entry++)
                {
                    tier.WriteEntry(row / map.Rows, row % map.Rows, entry, pass * entry, -(row + pass));
                }
            }

            tier.WriteEntry(0, 1, 5, 0, -7 - pass);
        }

        // Twice as many words as the log holds: some went to the device in between, and were written again.
        Assert.True(leaves * map.LeafTableWords >= 2 << 14);
        var root = new int[map.TableWords];
        tier.Read(0, root);
        Assert.Equal(Enumerable.Range(0, rows).Select(row => row * 2), root[..map.Directory]);
        Assert.Equal(Enumerable.Range(0, leaves).Select(Slot), root[map.Directory..]);
        for (int row = 0; row < rows; row++)
        {
            for (int entry = 0; entry < shape.TableCapacity; entry++)
            {
                var words = new int[map.LeafTags + 1];
                tier.Read(tier.LeafWord(row / map.Rows, map.LeafOf(entry)) + map.SlotInLeaf(row % map.Rows, entry), words);
                bool isLast = row == 1 && entry == 5;
                Assert.Equal(isLast ? (0, -9) : (2 * entry, -(row + 2)), (words[0], words[^1]));
            }
        }
    }

    [Fact]
    public void What_was_noted_of_a_leaf_that_closed_is_written_nowhere()
    {
        KernelShape shape = Shapes.Encoded(Small, PageFormat.F16);
        using PortableTier tier = Emulated.Tier(shape, 1 << 20, 2);
        TableMap map = tier.Map;
        int[] slots = [.. Enumerable.Range(0, 3).Select(i => map.FirstPageUnit + (i * map.LeafUnits))];
        int[] plain = [.. Enumerable.Range(0, map.LeafUnits * PageLayout.UnitWords).Select(word => 1000 + word)];
        Array.ForEach(slots, slot => tier.Load((long)slot * PageLayout.UnitWords, plain));

        // Closed, and opened elsewhere, before any launch: beside a leaf that stays.
        tier.OpenLeaf(1, 0, slots[0]);
        tier.WriteEntry(1, 0, 0, 5, 6);
        tier.OpenLeaf(0, 0, slots[1]);
        tier.WriteEntry(0, 1, 3, 7, 8);
        tier.WriteEntry(1, 1, 1, 9, 10);
        tier.CloseLeaf(0, 0);
        tier.OpenLeaf(0, 0, slots[2]);
        tier.WriteEntry(0, 1, 2, 11, 12);
        Assert.Equal(plain, Words(slots[1]));
        Assert.Equal(Patched((0, 5, 6), (map.SlotInLeaf(1, 1), 9, 10)), Words(slots[0]));
        Assert.Equal(Patched((map.SlotInLeaf(1, 2), 11, 12)), Words(slots[2]));
        var root = new int[map.TableWords];
        tier.Read(0, root);
        Assert.Equal(new Span<int>(tier.Tables, map.TableWords).ToArray(), root);

        // And closed for good, while the device has its words.
        tier.WriteEntry(0, 1, 2, 13, 14);
        tier.CloseLeaf(0, 0);
        Assert.Equal(Patched((map.SlotInLeaf(1, 2), 11, 12)), Words(slots[2]));
        tier.Read(0, root);
        Assert.Equal(0, root[map.DirectoryWord(0, 0)]);

        int[] Words(int slot)
        {
            var words = new int[plain.Length];
            tier.Read((long)slot * PageLayout.UnitWords, words);
            return words;
        }

        int[] Patched(params (int Word, int Slot, int Tag)[] entries)
        {
            int[] words = [.. plain];
            Array.ForEach(entries, entry => (words[entry.Word], words[entry.Word + map.LeafTags]) = (entry.Slot, entry.Tag));
            return words;
        }
    }

    [Fact]
    public void Leaves_come_and_go_without_managed_memory()
    {
        using PortableTier tier = Emulated.Tier(Shapes.Encoded(Small, PageFormat.F16), 1 << 20, 1);
        long before = 0;
        for (int pass = -1; pass < 100; pass++)
        {
            before = pass == 0 ? GC.GetAllocatedBytesForCurrentThread() : before;
            tier.OpenLeaf(0, 1, tier.Map.FirstPageUnit);
            tier.WriteEntry(0, 0, tier.Map.LeafPages, pass, pass);
            tier.WriteCount(0, 0, pass);
            tier.CloseLeaf(0, 1);
        }

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [Theory]
    [InlineData(PageFormat.I8, PageFormat.I8)]
    [InlineData(PageFormat.T4, PageFormat.V4)]
    public void The_observer_sees_every_byte_come_and_go(PageFormat key, PageFormat value)
    {
        var held = new Dictionary<AllocationKind, long>();
        KernelShape shape = Shapes.Mixed(Small, PageFormat.F16, key, value);
        PortableTier tier = Emulated.Tier(shape, 1 << 20, 1, (kind, bytes) => held[kind] = held.GetValueOrDefault(kind) + bytes);
        Assert.Equal(1 << 20, held[AllocationKind.Arena]);
        long before = held[AllocationKind.Scratch];
        KernelBatch batch = tier.CreateBatch(2, 16);
        Assert.Equal(batch.ScratchBytes, held[AllocationKind.Scratch] - before);
        long host = held[AllocationKind.Bookkeeping];
        tier.OpenLeaf(0, 0, tier.Map.FirstPageUnit);
        tier.OpenLeaf(1, 1, tier.Map.FirstPageUnit + tier.Map.LeafUnits);
        Assert.Equal(2 * tier.LeafHostBytes, held[AllocationKind.Bookkeeping] - host);
        Assert.InRange(tier.LeafHostBytes, tier.Map.LeafTableWords * sizeof(int), tier.Map.LeafBytes);
        tier.CloseLeaf(0, 0);
        Assert.Equal(tier.LeafHostBytes, held[AllocationKind.Bookkeeping] - host);
        batch.Dispose();
        batch.Dispose();
        tier.Dispose();
        tier.Dispose();
        Assert.All(held, pair => Assert.Equal(0, pair.Value));
    }

    [Fact]
    public void Steps_allocate_what_the_emulator_launches_cost_and_no_more()
    {
        const int Steps = 20;
        using var harness = new TierHarness((s, bytes) => Emulated.Tier(s, bytes, 1), Shapes.Encoded(Small, PageFormat.F16), 40);
        HarnessSequence sequence = harness.Add(new SequenceData(Small, 3, seed: 1));
        harness.Begin((sequence, 3));
        (float[] keys, float[] values, float[] queries) = (harness.Keys(0), harness.Values(0), harness.Queries(0));
        using KernelBatch batch = harness.Tier.CreateBatch(1, 4);
        var result = new float[3 * 4 * 64];
        long before = 0;
        for (int step = -2; step < Steps; step++)
        {
            before = step == 0 ? GC.GetAllocatedBytesForCurrentThread() : before;
            batch.Begin(harness.Ragged);
            batch.Append(0, keys, values);
            batch.Attend(0, queries, result);
            batch.Score(1f, step);
            batch.End();
        }

        long bytes = (GC.GetAllocatedBytesForCurrentThread() - before) / Steps;
        output.WriteLine($"{bytes} bytes for 6 launches, 3 uploads and 2 downloads");
        Assert.InRange(bytes, 0, 6 * 400);
    }

    [Fact]
    public void Batches_of_different_sequences_run_from_two_threads()
    {
        KernelShape shape = Shapes.Encoded(Small, PageFormat.F16, sequences: 2);
        using var harness = new TierHarness((s, bytes) => Emulated.Tier(s, bytes, 1), shape, 100);
        HarnessSequence[] sequences = [harness.Add(new SequenceData(Small, 12, 1)), harness.Add(new SequenceData(Small, 12, 2))];
        harness.Fill(sequences[0], 11);
        harness.Fill(sequences[1], 11);
        harness.Begin((sequences[0], 1), (sequences[1], 1));
        harness.Append(0);
        float[] queries = harness.Queries(0);
        float[] together = harness.Attend(0).Output;
        int row = Small.QueryHeads * Small.ValueWidth;
        Parallel.For(0, 2, i =>
        {
            using KernelBatch batch = harness.Tier.CreateBatch(1, 1);
            var mine = new float[row];
            for (int repeat = 0; repeat < 10; repeat++)
            {
                batch.Begin([harness.Ragged[i] with { FirstToken = 0 }]);
                batch.Attend(0, queries.AsSpan(i * 4 * 48, 4 * 48), mine);
                Assert.Equal(together.AsSpan(i * row, row).ToArray(), mine);
            }
        });
    }

    [Fact]
    public void Refuses_batches_that_do_not_fit_by_name()
    {
        using PortableTier tier = Emulated.Tier(Shapes.Encoded(Small, PageFormat.F16), 1 << 20, 1);
        using KernelBatch batch = tier.CreateBatch(1, 4);
        Assert.Throws<InvalidOperationException>(() => batch.Append(0, new float[96], new float[128]));
        Assert.Throws<ArgumentOutOfRangeException>(() => batch.Begin([]));
        Assert.Throws<ArgumentException>(() => batch.Begin([new RaggedSequence(0, 0, 5, 5)]));
        Assert.Throws<ArgumentException>(() => batch.Begin([new RaggedSequence(99, 0, 1, 1)]));
        Assert.Throws<ArgumentException>(() => batch.Begin([new RaggedSequence(0, 0, 2, 1)]));
        Assert.Throws<ArgumentOutOfRangeException>(() => new PortableTier(Emulated.For(2), tier.Shape, 1 << 20, groupSize: 3));
    }

    [Fact]
    public void Finding_the_memory_of_tensors_allocates_nothing()
    {
        using PortableTier tier = Emulated.Tier(Shapes.Encoded(Small, PageFormat.F16), 1 << 20, 1);
        using MemoryBuffer1D<float, Stride1D.Dense> buffer = Emulated.For(1).Allocate1D<float>(512);
        long found = 0;
        void Find()
        {
            ArrayView<byte> bytes = buffer.View.AsContiguous().Cast<byte>();
            found += tier.Views.Of(KvTensor.FromDevice(bytes, TensorType.F32), "keys").Length;
            found += tier.Views.Of(KvTensor.FromDevicePointer(buffer.NativePtr + 2, TensorType.F16, 100), "keys").Length;
            var output = KvOutput.FromDevicePointer(buffer.NativePtr, TensorType.BF16, 100, buffer.NativePtr + 256);
            found += tier.Views.Of(output, "output").Length + tier.Views.SumsOf(output, 8).Length;
        }

        Find();
        Assert.Equal(0, Allocations.Of(Find));
        Assert.Equal(0, found % (1024 + 100 + 100 + 8));
        Assert.NotEqual(0, found);
    }

    private static float[] Prefill(long partialFloats, int segmentTokens, out long scratch)
    {
        KernelShape shape = Shapes.Encoded(Small, PageFormat.F16);
        using var harness = new TierHarness(
            (s, bytes) => new PortableTier(Emulated.For(2), s, bytes, 2) { PartialFloats = partialFloats, SegmentTokens = segmentTokens }, shape, 100);
        HarnessSequence sequence = harness.Add(new SequenceData(Small, 80, seed: 2));
        harness.Fill(sequence, 40);
        harness.Begin((sequence, 40));
        harness.Append(0);
        scratch = harness.ScratchBytes;
        return harness.Attend(0).Output;
    }

    private static float[] Rounded(float[] values, TensorType type) => type == TensorType.F32
        ? values
        : [.. values.Select(x => BitConverter.Int32BitsToSingle(BitConverter.SingleToInt32Bits((float)(System.Half)x) & -65536))];

    private static KvTensor Tensor(MemoryBuffer1D<byte, Stride1D.Dense> buffer, TensorType type, int tokenStride, int headStride) =>
        KvTensor.FromDevice(buffer.View.AsContiguous(), type, tokenStride, headStride);

    private static MemoryBuffer1D<byte, Stride1D.Dense> Upload(
        Accelerator accelerator, float[] values, TensorType type, int heads, int width, int tokenStride, int headStride)
    {
        float[] spread = Strided.Spread(values, heads, width, tokenStride, headStride);
        byte[] bytes = type switch
        {
            TensorType.F32 => MemoryMarshal.AsBytes<float>(spread).ToArray(),
            TensorType.F16 => MemoryMarshal.AsBytes<System.Half>(Strided.Halves(spread)).ToArray(),
            _ => MemoryMarshal.AsBytes<ushort>(Strided.BFloat16s(spread)).ToArray(),
        };
        return accelerator.Allocate1D(bytes);
    }
}
