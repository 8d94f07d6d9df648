using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;
using KvCacheGpu.Kernels;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Tests;

/// <summary>A layer's tokens written out whole, as models take them that concatenate.</summary>
public class ReadLayerTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;
    private static readonly int Row = G.KvHeads * G.KeyWidth;

    [Theory]
    [InlineData(TensorType.F32)]
    [InlineData(TensorType.F16)]
    [InlineData(TensorType.BF16)]
    public void A_sequence_reads_as_it_was_appended_in_any_type(TensorType type)
    {
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config());
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 18);
        (byte[] keys, byte[] values) = (Room(type, 18), Room(type, 18));
        Assert.Equal(18, sequence.ReadLayer(1, TypedNumbers.HostOutput(keys, type), TypedNumbers.HostOutput(values, type)));
        Assert.Equal(TypedNumbers.Bytes(TokenContent.Keys(G, 1, Ids(18)), type), keys);
        Assert.Equal(TypedNumbers.Bytes(TokenContent.Values(G, 1, Ids(18)), type), values);

        // One part alone; and a target that is too short is refused whole.
        byte[] alone = Room(type, 18);
        Assert.Equal(18, sequence.ReadLayer(1, default, TypedNumbers.HostOutput(alone, type)));
        Assert.Equal(values, alone);
        Array.Clear(keys);
        Assert.Throws<ArgumentException>("values", () =>
            sequence.ReadLayer(1, TypedNumbers.HostOutput(keys, type), TypedNumbers.HostOutput(alone.AsSpan(0, alone.Length - 4), type)));
        Assert.All(keys, x => Assert.Equal(0, x));
    }

    [Fact]
    public void A_step_reads_its_own_tokens_behind_those_before_it()
    {
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config());
        using KvSequence first = cache.CreateSequence();
        using KvSequence second = cache.CreateSequence();
        first.FeedMany(1, 10);
        second.FeedMany(100, 3);
        using KvStep step = cache.Begin([first, second], [11, 12, 13, 103], [3, 1]);
        float[] keys = new float[13 * Row];
        Assert.Equal("E010", Assert.Throws<KvStepOrderException>(() => step.ReadLayer(0, 0, keys, default)).Code);
        TestCaches.AppendAll(step, G, [11, 12, 13, 103]);
        float[] values = new float[13 * Row];
        Assert.Equal(13, step.ReadLayer(1, 0, keys, values));
        Assert.Equal(TokenContent.Keys(G, 1, Ids(13)), keys);
        Assert.Equal(TokenContent.Values(G, 1, Ids(13)), values);
        Assert.Equal(4, step.ReadLayer(0, 1, keys, default));
        Assert.Equal(TokenContent.Keys(G, 0, [100, 101, 102, 103]), keys[..(4 * Row)]);
        Assert.Throws<ArgumentOutOfRangeException>("sequence", () => step.ReadLayer(0, 2, keys, values));
        Assert.Throws<ArgumentOutOfRangeException>("layer", () => step.ReadLayer(2, 0, keys, values));
        Assert.Throws<ArgumentException>("keys", () => step.ReadLayer(0, 0, new float[(13 * Row) - 1], values));
        step.Commit();
        Assert.Equal(13, first.ReadLayer(1, keys, default));
        Assert.Equal(TokenContent.Keys(G, 1, Ids(13)), keys);
    }

    [Fact]
    public void Heads_of_other_tokens_are_no_tensor()
    {
        KvCacheOptions config = TestCaches.Config();
        config.Policy = new FirstHeadOnly { SinkTokens = 0, WindowTokens = 1 };
        using KvCache cache = TestCaches.Reference(G, config);
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 16);
        float[] keys = new float[17 * Row];
        Assert.Contains("head by head", Assert.Throws<KvUnsupportedException>(() => sequence.ReadLayer(0, keys, default)).Message, StringComparison.Ordinal);
        using KvStep step = sequence.Begin([17]);
        TestCaches.AppendAll(step, G, [17]);
        Assert.Equal("E009", Assert.Throws<KvUnsupportedException>(() => step.ReadLayer(0, 0, keys, default)).Code);
    }

    [Fact]
    public void Tokens_that_a_policy_dropped_in_all_heads_are_left_out()
    {
        KvCacheOptions config = TestCaches.Config();
        config.Policy = new WindowPolicy(4, 4);
        using KvCache cache = TestCaches.Simd(G, config);
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(0, 30, chunk: 1);
        int[] positions = new int[30];
        int resident = sequence.ResidentPositions(1, 0, positions);
        Assert.InRange(resident, 8, 20);
        float[] keys = new float[(resident + 1) * Row];
        Assert.Equal(resident, sequence.ReadLayer(1, keys, default));
        Assert.Equal(TokenContent.Keys(G, 1, positions.AsSpan(0, resident)), keys[..(resident * Row)]);
        using KvStep step = sequence.Begin([30]);
        TestCaches.AppendAll(step, G, [30]);
        Assert.Equal(resident + 1, step.ReadLayer(1, 0, keys, default));
        Assert.Equal(TokenContent.Keys(G, 1, [.. positions.AsSpan(0, resident), 30]), keys);
    }

    [Fact]
    public void The_device_writes_to_the_device_and_host_memory_cannot()
    {
        using Context context = Context.Create(builder => builder.CPU(new CPUDevice(2, 1, 2)));
        using Accelerator accelerator = context.CreateCPUAccelerator(0);
        using var cache = new KvCache(G, TestCaches.Config(PageFormat.I8), (shape, bytes, seen) => new PortableTier(accelerator, shape, bytes, 2, seen));
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 18);
        (float[] keys, float[] values) = (new float[20 * Row], new float[20 * Row]);
        using MemoryBuffer1D<byte, Stride1D.Dense> keysThere = accelerator.Allocate1D<byte>(20 * Row * 2);
        using MemoryBuffer1D<float, Stride1D.Dense> valuesThere = accelerator.Allocate1D<float>(20 * Row);
        using (KvStep step = sequence.Begin([19, 20]))
        {
            TestCaches.AppendAll(step, G, [19, 20]);
            Assert.Equal(20, step.ReadLayer(1, 0, keys, values));
            Assert.Equal(20, step.ReadLayer(1, 0, KvOutput.FromDevicePointer(keysThere.NativePtr, TensorType.BF16, 20 * Row), valuesThere.View.AsContiguous()));
            accelerator.Synchronize();
            Assert.Equal(TypedNumbers.Bytes(keys, TensorType.BF16), keysThere.GetAsArray1D());
            Assert.Equal(values, valuesThere.GetAsArray1D());
            step.Commit();
        }

        keysThere.MemSetToZero();
        Assert.Equal(20, sequence.ReadLayer(1, KvOutput.FromDevice(keysThere.View.AsContiguous(), TensorType.BF16), default));
        accelerator.Synchronize();
        _ = sequence.ReadLayer(1, keys, default);
        Assert.Equal(TypedNumbers.Bytes(keys, TensorType.BF16), keysThere.GetAsArray1D());

        using KvCache host = TestCaches.Simd(G, TestCaches.Config());
        using KvSequence there = host.CreateSequence();
        there.Feed(1);
        Assert.Equal("E009", Assert.Throws<KvUnsupportedException>(() => there.ReadLayer(0, valuesThere.View.AsContiguous(), default)).Code);
    }

    [Fact]
    public void A_policy_learns_the_same_from_outputs_of_any_type()
    {
        float[] Moments(TensorType type)
        {
            KvCacheOptions config = TestCaches.Config();
            config.Policy = new H2oPolicy();
            using KvCache cache = TestCaches.Simd(G, config);
            using var moments = new RowMoments(cache.State.Tier.Shape, cache.State.Ledger);
            float[] queries = TokenContent.Queries(G, 1, [3]);
            float[] output = TokenContent.Queries(G, 1, [4]);
            moments.See(G, 1, 0, queries, TypedNumbers.HostOutput(TypedNumbers.Bytes(output, type), type));
            moments.Join();
            return [.. moments.Query, .. moments.Output];
        }

        float[] expected = Moments(TensorType.F32);
        Assert.True(expected[^1] > 0);
        Assert.Equal(expected, Moments(TensorType.F16));
        Assert.Equal(expected[..^2], Moments(TensorType.BF16)[..^2]);
    }

    private static int[] Ids(int count) => [.. Enumerable.Range(1, count)];

    private static byte[] Room(TensorType type, int tokens) => new byte[tokens * Row * (type == TensorType.F32 ? 4 : 2)];
}
