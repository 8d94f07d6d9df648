using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;
using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Tensors and outputs of every type, wherever they lie, say the same numbers; what a tier cannot reach it refuses before it writes.</summary>
public abstract class TensorConformance<TTier>
    where TTier : ITierUnderTest
{
    private const int Tokens = 7;
    private static readonly KvGeometry _geometry = new(layers: 1, queryHeads: 4, kvHeads: 2, keyWidth: 48, valueWidth: 64, pageTokens: 5);

    public static TheoryData<TensorType, PageFormat> TypesAndPages()
    {
        var cases = new TheoryData<TensorType, PageFormat>();
        foreach (TensorType type in Enum.GetValues<TensorType>())
        {
            Array.ForEach(Shapes.FullPrecision, format => cases.Add(type, format));
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(TypesAndPages))]
    public void Append_writes_the_bits_of_the_same_numbers_in_binary32(TensorType type, PageFormat format)
    {
        using var harness = new TierHarness(TTier.Create, Shapes.Plain(_geometry, format), 100);
        float[] keys = Held(Within(HardVectors.Make(Tokens, 2, 48, 31)), type);
        float[] values = Held(Within(HardVectors.Make(Tokens, 2, 64, 32)), type);
        byte[][] expected = Appended(harness, (KvTensor)keys, values);
        byte[] keyBytes = TypedNumbers.Bytes(Strided.Spread(keys, 2, 48, 131, 61), type);
        byte[] valueBytes = TypedNumbers.Bytes(Strided.Spread(values, 2, 64, 65, 500), type);
        Assert.Equal(expected, Appended(harness, TypedNumbers.HostTensor(keyBytes, type, 131, 61), TypedNumbers.HostTensor(valueBytes, type, 65, 500)));
        foreach (bool byAddress in Ways(harness.Tier))
        {
            // Odd strides, and a start that is a multiple of the element's size and of no more.
            using DeviceBytes k = DeviceBytes.On(harness.Tier, keyBytes, type == TensorType.F32 ? 4 : 2);
            using DeviceBytes v = DeviceBytes.On(harness.Tier, valueBytes, type == TensorType.F32 ? 12 : 6);
            Assert.Equal(expected, Appended(harness, k.Tensor(type, byAddress, 131, 61), v.Tensor(type, byAddress, 65, 500)));
        }
    }

    [Theory]
    [InlineData(TensorType.F32, TensorType.F16)]
    [InlineData(TensorType.F32, TensorType.BF16)]
    [InlineData(TensorType.F16, TensorType.F16)]
    [InlineData(TensorType.BF16, TensorType.BF16)]
    [InlineData(TensorType.F16, TensorType.F32)]
    public void Attention_rounds_each_result_once_wherever_queries_and_output_lie(TensorType asked, TensorType got)
    {
        using TierHarness harness = Filled(Shapes.Encoded(_geometry, PageFormat.F16), out HarnessSequence sequence);
        harness.Begin((sequence, 3));
        harness.Append(0);
        float[] queries = Held(harness.Queries(0), asked);
        Attention single = harness.Attend(0, queries);
        byte[] expected = TypedNumbers.Bytes(single.Output, got);
        byte[] queryBytes = TypedNumbers.Bytes(Strided.Spread(queries, 4, 48, 251, 49), asked);

        // One element more than there are: it stays as it is.
        byte[] room = [.. Enumerable.Repeat((byte)0xA5, expected.Length + 4)];
        var sums = new float[single.LogSumExp.Length];
        harness.AttendTo(0, TypedNumbers.HostTensor(queryBytes, asked, 251, 49), TypedNumbers.HostOutput(room, got, sums));
        Assert.Equal([.. expected, 0xA5, 0xA5, 0xA5, 0xA5], room);
        Assert.Equal(single.LogSumExp, sums);
        foreach (bool byAddress in Ways(harness.Tier))
        {
            using DeviceBytes q = DeviceBytes.On(harness.Tier, queryBytes, asked == TensorType.F32 ? 4 : 2);
            using DeviceBytes output = DeviceBytes.On(harness.Tier, [.. Enumerable.Repeat((byte)0xA5, expected.Length + 4)], got == TensorType.F32 ? 4 : 2);
            using DeviceBytes lse = DeviceBytes.On(harness.Tier, new byte[sums.Length * sizeof(float)], 8);
            harness.AttendTo(0, q.Tensor(asked, byAddress, 251, 49), output.Output(got, byAddress, lse));
            Assert.Equal([.. expected, 0xA5, 0xA5, 0xA5, 0xA5], output.Read());
            Assert.Equal(single.LogSumExp, MemoryMarshal.Cast<byte, float>(lse.Read()).ToArray());
        }
    }

    [Theory]
    [InlineData(TensorType.F16, 1e5f, 65504f)]
    [InlineData(TensorType.F16, -66000f, -65504f)]
    [InlineData(TensorType.F16, 65519f, 65504f)]
    [InlineData(TensorType.BF16, 3.4e38f, 3.3895314e38f)]
    [InlineData(TensorType.BF16, -3.4e38f, -3.3895314e38f)]
    public void Results_beyond_a_type_are_its_largest_number(TensorType type, float value, float expected)
    {
        using var harness = new TierHarness(TTier.Create, Shapes.Mixed(_geometry, PageFormat.F32, PageFormat.F32, PageFormat.F32), 40);
        HarnessSequence sequence = harness.Add(new SequenceData(_geometry, 1, 1));
        harness.Begin((sequence, 1));
        harness.Append(0, harness.Keys(0), Enumerable.Repeat(value, 2 * 64).ToArray());
        byte[] bytes = new byte[4 * 64 * 2];
        harness.AttendTo(0, harness.Queries(0), TypedNumbers.HostOutput(bytes, type));
        Assert.Null(harness.End());
        Assert.Equal(Enumerable.Repeat(expected, 4 * 64), TypedNumbers.Numbers(bytes, type));
    }

    [Theory]
    [InlineData(TensorType.F32)]
    [InlineData(TensorType.F16)]
    [InlineData(TensorType.BF16)]
    public void Decoded_pages_are_rounded_once_wherever_they_go(TensorType type)
    {
        using TierHarness harness = Filled(Shapes.Mixed(_geometry, PageFormat.F32, PageFormat.T4, PageFormat.V4), out HarnessSequence sequence);
        PageRead[] reads = [.. from head in Enumerable.Range(0, 2)
                               from e in sequence.Rows[0, head]
                               let first = e.PageIndex * 5
                               select new PageRead(e.Slot, e.PageClass, Math.Min(5, sequence.Length - first), (first * 2) + head, 2)];
        (float[] keys, float[] values) = (new float[sequence.Length * 2 * 48], new float[sequence.Length * 2 * 64]);
        harness.Tier.Materialize(reads, keys, values);
        (byte[] keysExpected, byte[] valuesExpected) = (TypedNumbers.Bytes(keys, type), TypedNumbers.Bytes(values, type));
        (byte[] keysGot, byte[] valuesGot) = (new byte[keysExpected.Length], new byte[valuesExpected.Length]);
        harness.Tier.Materialize(reads, TypedNumbers.HostOutput(keysGot, type), TypedNumbers.HostOutput(valuesGot, type));
        Assert.Equal(keysExpected, keysGot);
        Assert.Equal(valuesExpected, valuesGot);
        Assert.Throws<ArgumentException>("keys", () => harness.Tier.Materialize(reads, new float[keys.Length - 1], values));
        foreach (bool byAddress in Ways(harness.Tier))
        {
            using DeviceBytes k = DeviceBytes.On(harness.Tier, new byte[keysExpected.Length], type == TensorType.F32 ? 4 : 2);
            using DeviceBytes v = DeviceBytes.On(harness.Tier, new byte[valuesExpected.Length]);
            harness.Tier.Materialize(reads, k.Output(type, byAddress), v.Output(type, byAddress));
            harness.Tier.Synchronize();
            Assert.Equal(keysExpected, k.Read());
            Assert.Equal(valuesExpected, v.Read());
        }
    }

    [Fact]
    public void What_the_tier_cannot_reach_is_refused_and_changes_nothing()
    {
        using TierHarness harness = Filled(Shapes.Plain(_geometry, PageFormat.F32), out HarnessSequence sequence);
        harness.Begin((sequence, 1));
        float[] queries = harness.Queries(0);
        harness.Append(0);
        byte[][] before = PagesOf(harness, sequence);
        using Context context = DeviceCompiler.CreateContext(builder => builder.CPU(new CPUDevice(2, 1, 1)));
        using Accelerator other = context.Devices[0].CreateAccelerator(context);
        using MemoryBuffer1D<float, Stride1D.Dense> foreign = other.Allocate1D(new float[4 * 64]);
        KvTensor Foreign(int length) => KvTensor.FromDevice(foreign.View.AsContiguous().SubView(0, length).Cast<byte>(), TensorType.F32);
        if (DeviceBytes.AcceleratorOf(harness.Tier) is not { } own)
        {
            Assert.Throws<NotSupportedException>(() => harness.Append(0, Foreign(96), Foreign(128)));
            Assert.Throws<NotSupportedException>(() => harness.AttendTo(0, queries, foreign.View.AsContiguous()));
            Assert.Throws<NotSupportedException>(() => harness.AttendTo(0, queries, KvOutput.FromDevicePointer(4096, TensorType.F16, 256)));
            Assert.Throws<NotSupportedException>(() => harness.Tier.Materialize([], foreign.View.AsContiguous(), default));
            Assert.Equal(before, PagesOf(harness, sequence));
            return;
        }

        Assert.Throws<ArgumentException>("values", () => harness.Append(0, harness.Keys(0), Foreign(128)));
        Assert.Throws<ArgumentException>("keys", () => harness.Append(0, Foreign(96), harness.Values(0)));
        Assert.Throws<ArgumentException>("queries", () => harness.AttendTo(0, Foreign(192), new float[256]));
        Assert.Throws<ArgumentException>("output", () => harness.AttendTo(0, queries, foreign.View.AsContiguous()));
        using DeviceBytes bytes = DeviceBytes.On(harness.Tier, new byte[4 * 64 * 4 + 4]);
        Assert.Throws<ArgumentException>("logSumExp", () =>
            harness.AttendTo(0, queries, KvOutput.FromDevice(bytes.View, TensorType.F32, foreign.View.AsContiguous())));
        Assert.Throws<ArgumentException>("output", () => harness.AttendTo(0, queries, KvOutput.FromDevice(bytes.View.SubView(2, 1024), TensorType.F32)));
        Assert.Throws<ArgumentException>("queries", () => harness.AttendTo(0, KvTensor.FromDevice(bytes.View.SubView(1, 384), TensorType.F16), new float[256]));
        Assert.Throws<ArgumentException>("keys", () => harness.Tier.Materialize(
            [new PageRead(sequence.Rows[0, 0][0].Slot, sequence.Rows[0, 0][0].PageClass, 5, 0, 1)], foreign.View.AsContiguous(), default));
        using MemoryBuffer1D<float, Stride1D.Dense> gone = own.Allocate1D<float>(256);
        ArrayView<float> goneView = gone.View.AsContiguous();
        gone.Dispose();
        Assert.Throws<ObjectDisposedException>(() => harness.Append(0, harness.Keys(0), KvTensor.FromDevice(goneView.SubView(0, 128).Cast<byte>(), TensorType.F32)));
        Assert.Throws<ObjectDisposedException>(() => harness.AttendTo(0, queries, goneView));
        RefuseAddresses(harness, own, bytes.Address, queries);
        Assert.Null(harness.End());
        Assert.Equal(before, PagesOf(harness, sequence));
        Assert.All(bytes.Read(), x => Assert.Equal(0, x));
    }

    private static void RefuseAddresses(TierHarness harness, Accelerator own, nint address, float[] queries)
    {
        if (own.AcceleratorType == AcceleratorType.OpenCL)
        {
            Assert.Throws<NotSupportedException>(() => harness.AttendTo(0, queries, KvOutput.FromDevicePointer(address, TensorType.F32, 256)));
            return;
        }

        Assert.Throws<ArgumentException>("output", () => harness.AttendTo(0, queries, KvOutput.FromDevicePointer(address + 2, TensorType.F32, 256)));
        Assert.Throws<ArgumentException>("output", () => harness.AttendTo(0, queries, KvOutput.FromDevicePointer(address + 1, TensorType.F16, 256)));
        Assert.Throws<ArgumentException>("logSumExp", () => harness.AttendTo(0, queries, KvOutput.FromDevicePointer(address, TensorType.F16, 256, address + 513)));
        if (own.AcceleratorType != AcceleratorType.Cuda)
        {
            // Nobody can know what an address of the process is.
            return;
        }

        // Unknown to the driver, page-locked memory of the host, and memory that ends before the tensor does.
        using PageLockedArray1D<float> pinned = own.AllocatePageLocked1D<float>(256);
        nint host = AddressOf(pinned);
        Assert.Throws<ArgumentException>("output", () => harness.AttendTo(0, queries, KvOutput.FromDevicePointer(4096, TensorType.F32, 256)));
        Assert.Throws<ArgumentException>("output", () => harness.AttendTo(0, queries, KvOutput.FromDevicePointer(host, TensorType.F32, 256)));
        Assert.Throws<ArgumentException>("output", () => harness.AttendTo(0, queries, KvOutput.FromDevicePointer(address + 8, TensorType.F32, 256)));
        Assert.Throws<ArgumentException>("keys", () => harness.Append(0, KvTensor.FromDevicePointer(address, TensorType.F32, 1 << 20, 1 << 20, 48), harness.Values(0)));
    }

    private static unsafe nint AddressOf(PageLockedArray1D<float> pinned) =>
        (nint)Unsafe.AsPointer(ref pinned.Span[0]);

    // By view and by address; neither where the tier works in host memory, no address on OpenCL.
    private static bool[] Ways(KernelTier tier) => DeviceBytes.AcceleratorOf(tier)?.AcceleratorType switch
    {
        null => [],
        AcceleratorType.OpenCL => [false],
        _ => [false, true],
    };

    // Numbers that the type holds, so that binary32 and the type are the same numbers; NaN is for gaps.
    private static float[] Held(float[] numbers, TensorType type) => TypedNumbers.Numbers(TypedNumbers.Bytes(numbers, type), type);

    // bfloat16 would round numbers near 65504 to more than binary16 pages take.
    private static float[] Within(float[] numbers) => [.. numbers.Select(x => Math.Clamp(x, -65000f, 65000f))];

    private static TierHarness Filled(KernelShape shape, out HarnessSequence sequence)
    {
        var harness = new TierHarness(TTier.Create, shape, 100);
        sequence = harness.Add(new SequenceData(_geometry, 24, seed: 8));
        harness.Fill(sequence, 20);
        return harness;
    }

    private static byte[][] Appended(TierHarness harness, KvTensor keys, KvTensor values)
    {
        HarnessSequence sequence = harness.Add(new SequenceData(_geometry, 1, 1));
        harness.Begin((sequence, Tokens));
        harness.Append(0, keys, values);
        Assert.Null(harness.End());
        byte[][] pages = PagesOf(harness, sequence);
        harness.Remove(sequence);
        return pages;
    }

    private static byte[][] PagesOf(TierHarness harness, HarnessSequence sequence) =>
        [.. from head in Enumerable.Range(0, 2)
            from entry in sequence.Rows[0, head]
            select harness.ReadBytes(entry.Slot, entry.PageClass)];
}
