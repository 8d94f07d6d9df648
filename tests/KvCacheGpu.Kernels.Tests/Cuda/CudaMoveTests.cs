using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>The kernels of CUDA devices that seal and transcode, beside the portable ones on the same device: the same bytes everywhere in the pages.</summary>
public sealed class CudaMoveTests(CudaMoveTests.Device device) : IClassFixture<CudaMoveTests.Device>
{
    private static readonly (PageFormat Key, PageFormat Value)[] Sealed =
    [
        (PageFormat.I8, PageFormat.I8), (PageFormat.T4, PageFormat.V4), (PageFormat.T3, PageFormat.V3), (PageFormat.T2, PageFormat.V2), (PageFormat.FP8, PageFormat.FP8),
    ];

    public static TheoryData<PageFormat, int, int, int> Cases => new()
    {
        { PageFormat.F16, 128, 64, 64 },
        { PageFormat.BF16, 64, 128, 16 },
        { PageFormat.F16, 80, 96, 12 },
        { PageFormat.BF16, 96, 80, 8 },
        { PageFormat.F16, 256, 192, 4 },
        { PageFormat.F16, 176, 256, 32 },
    };

    [CudaTheory]
    [MemberData(nameof(Cases))]
    public void Pages_are_those_of_the_portable_kernels_byte_for_byte(PageFormat open, int keyWidth, int valueWidth, int pageTokens)
    {
        Accelerator accelerator = device.Accelerator;
        var geometry = new KvGeometry(1, 2, 2, keyWidth, valueWidth, pageTokens);
        KernelShape shape = Shapes.Classes(geometry, open, [.. Sealed, (open, open)]);
        List<(string Move, bool Kept, byte[] Page)> expected = Written((s, bytes) => new PortableTier(accelerator, s, bytes), shape);
        List<(string Move, bool Kept, byte[] Page)> got = Written((s, bytes) => new PortableTier(accelerator, s, bytes, 0, null, tensors: null, CudaMoves.For(accelerator)), shape);
        Assert.Equal(expected.Count, got.Count);
        foreach (((string move, bool kept, byte[] page), (_, bool gotKept, byte[] gotPage)) in expected.Zip(got))
        {
            int differs = kept ? -1 : Enumerable.Range(0, page.Length / 4).FirstOrDefault(w => !page.AsSpan(4 * w, 4).SequenceEqual(gotPage.AsSpan(4 * w, 4)), -1);
            Assert.True(kept == gotKept && differs < 0, $"{move}: kept {kept} and {gotKept}, word {differs} differs");
        }

        Assert.Contains(expected, e => !e.Kept);
    }

    [CudaFact]
    public void They_take_what_they_say_and_leave_the_rest()
    {
        Accelerator accelerator = device.Accelerator;
        CudaMoves own = CudaMoves.For(accelerator)!;
        Assert.True(Takes(64, 64));
        Assert.True(Takes(80, 4));
        Assert.False(Takes(72, 64));
        Assert.False(Takes(48, 64));
        Assert.False(Takes(512, 16));
        Assert.False(Takes(64, 6));
        Assert.False(Takes(256, 64));
        Assert.True(Takes(256, 32));
        Assert.False(Takes(64, 64, PageFormat.F32));

        bool Takes(int width, int pageTokens, PageFormat source = PageFormat.F16)
        {
            var geometry = new KvGeometry(1, 1, 1, width, pageTokens: pageTokens);
            PartDims from = new(geometry, new PageLayout(geometry, source, source), false), to = new(geometry, new PageLayout(geometry, PageFormat.I8, PageFormat.I8), false);
            return own.Move(new PartPair(source, PageFormat.I8, IsValue: false, HasDigest: true, from, to)) is not null;
        }
    }

    public static TheoryData<PageFormat, int, int, int> AppendCases => new()
    {
        { PageFormat.F16, 64, 128, 16 },
        { PageFormat.BF16, 80, 8, 5 },
        { PageFormat.F32, 128, 72, 7 },
    };

    /// <summary>Tensors of all types, dense and strided so that some of them begin at multiples of 16 bytes and others do not; numbers that are refused, and NaN that is kept.</summary>
    [CudaTheory]
    [MemberData(nameof(AppendCases))]
    public void Appended_pages_and_refusals_are_those_of_the_portable_kernel(PageFormat open, int keyWidth, int valueWidth, int pageTokens)
    {
        var geometry = new KvGeometry(2, 3, 3, keyWidth, valueWidth, pageTokens);
        foreach (bool keeps in new[] { false, true })
        {
            KernelShape shape = Shapes.Mixed(geometry, open, PageFormat.I8, PageFormat.I8, sequences: 3, keepsNonFinite: keeps);
            var own = new Counted(CudaMoves.For(device.Accelerator)!);
            List<byte[]> expected = Appended((s, bytes) => new PortableTier(device.Accelerator, s, bytes), shape);
            List<byte[]> got = Appended((s, bytes) => new PortableTier(device.Accelerator, s, bytes, 0, null, tensors: null, own), shape);
            Assert.Equal(expected, got);
            Assert.InRange(own.Taken, 6, own.Asked - 2);
        }
    }

    /// <summary>The order of a sum seldom shows in codes: here it is compared in all bits, and the rotation with it.</summary>
    [CudaTheory]
    [InlineData(64, 4)]
    [InlineData(128, 8)]
    [InlineData(256, 16)]
    public void A_vector_in_lanes_is_summed_and_rotated_in_the_order_that_is_defined(int width, int lanes)
    {
        const int Vectors = 64;
        float[] vectors = HardVectors.Make(Vectors, 1, width, 91);
        var expected = new float[vectors.Length + Vectors];
        for (int i = 0; i < Vectors; i++)
        {
            Span<float> x = vectors.AsSpan(i * width, width);
            float[] squares = [.. x.ToArray().Select(e => e * e)];
            for (int half = width / 2; half > 0; half /= 2)
            {
                for (int e = 0; e < half; e++)
                {
                    squares[e] += squares[e + half];
                }
            }

            expected[vectors.Length + i] = squares[0];
            x.CopyTo(expected.AsSpan(i * width));
            Rotation.Apply(expected.AsSpan(i * width, width), [.. Enumerable.Repeat(1f, width)]);
        }

        using MemoryBuffer1D<float, Stride1D.Dense> memory = device.Accelerator.Allocate1D(vectors);
        using MemoryBuffer1D<float, Stride1D.Dense> results = device.Accelerator.Allocate1D<float>(expected.Length);
        device.Accelerator.LoadKernel<ArrayView<Four>, ArrayView<Four>, ArrayView<float>, int, float>(SumAndRotate)(
            device.Accelerator.DefaultStream,
            new KernelConfig(Vectors * lanes / 32, 32),
            memory.View.AsContiguous().Cast<Four>(),
            results.View.AsContiguous().Cast<Four>(),
            results.View.AsContiguous().SubView(vectors.Length, Vectors),
            lanes,
            Rotation.Norm(width));
        device.Accelerator.Synchronize();
        Assert.Equal(expected.Select(BitConverter.SingleToUInt32Bits), results.GetAsArray1D().Select(BitConverter.SingleToUInt32Bits));
    }

    private static void SumAndRotate(ArrayView<Four> vectors, ArrayView<Four> rotated, ArrayView<float> sums, int lanes, float norm)
    {
        int i = (Grid.IdxX * Group.DimX) + Group.IdxX;
        int lane = i % lanes;
        Sixteen x = Sixteen.Of(vectors[4 * i], vectors[(4 * i) + 1], vectors[(4 * i) + 2], vectors[(4 * i) + 3]);
        float sum = Sixteen.SquareSum(x, lane, lanes);
        if (lane == 0)
        {
            sums[i / lanes] = sum;
        }

        x = Sixteen.Transform(x, 16 * lanes, lane, norm);
        rotated[4 * i] = x.A;
        rotated[(4 * i) + 1] = x.B;
        rotated[(4 * i) + 2] = x.C;
        rotated[(4 * i) + 3] = x.D;
    }

    // The bytes of all pages after appends of each form, and what was refused.
    private static List<byte[]> Appended(Func<KernelShape, long, KernelTier> create, KernelShape shape)
    {
        KvGeometry g = shape.Geometry;
        using var harness = new TierHarness(create, shape, 600);
        HarnessSequence[] sequences = [.. Enumerable.Range(0, 3).Select(i => harness.Add(new SequenceData(g, 1, i)))];
        var results = new List<byte[]>();
        int tokens = 4 + 1 + 21;
        float[] keys = HardVectors.Make(tokens, 3, g.KeyWidth, 81), values = HardVectors.Make(tokens, 3, g.ValueWidth, 82);
        float[] bad = [.. values.Select((x, i) => i % 997 == 500 ? 65519.5f : i % 1013 == 700 ? float.NaN : i % 1511 == 300 ? float.NegativeInfinity : x)];
        Append(KvTensor.FromHost(keys), KvTensor.FromHost(values));
        Append(KvTensor.FromHost(Strided.Halves(keys)), KvTensor.FromHost(Strided.Halves(bad)));
        Append(KvTensor.FromHostBFloat16(Strided.BFloat16s(keys)), KvTensor.FromHostBFloat16(Strided.BFloat16s(bad)));
        Append(KvTensor.FromHost(keys), KvTensor.FromHost(bad));
        foreach (TensorType type in Enum.GetValues<TensorType>())
        {
            // Strides that keep multiples of 16 bytes, and then ones that do not.
            foreach (int gap in new[] { 8, 3 })
            {
                (int keyStride, int valueStride) = (g.KeyWidth + gap, g.ValueWidth + gap);
                using DeviceBytes k = DeviceBytes.On(harness.Tier, TypedNumbers.Bytes(Strided.Spread(keys, 3, g.KeyWidth, 4 * keyStride, keyStride), type), 16);
                using DeviceBytes v = DeviceBytes.On(harness.Tier, TypedNumbers.Bytes(Strided.Spread(bad, 3, g.ValueWidth, 4 * valueStride, valueStride), type), 32);
                Append(k.Tensor(type, byAddress: gap == 8, 4 * keyStride, keyStride), v.Tensor(type, byAddress: gap == 8, 4 * valueStride, valueStride));
            }
        }

        return results;

        void Append(KvTensor k, KvTensor v)
        {
            harness.Begin((sequences[0], 4), (sequences[1], 1), (sequences[2], 21));
            harness.Append(1, k, v);
            NonFinite? refused = harness.End();
            results.Add(refused is { } r ? [1, (byte)r.Layer, (byte)r.Token, (byte)r.Head, r.IsValue ? (byte)1 : (byte)0] : [0]);
            results.AddRange(sequences.SelectMany(s => from head in Enumerable.Range(0, 3) from entry in s.Rows[1, head] select harness.ReadBytes(entry.Slot, entry.PageClass)));
        }
    }

    // Every class from open pages, of whole pages and of a few of their tokens; then from I8 pages what is below them. Heads have key scales, and none.
    private static List<(string Move, bool Kept, byte[] Page)> Written(Func<KernelShape, long, KernelTier> create, KernelShape shape)
    {
        KvGeometry g = shape.Geometry;
        using var harness = new TierHarness(create, shape, 120);
        var exponents = new byte[2 * g.KeyWidth];
        new Random(5).NextBytes(exponents.AsSpan(g.KeyWidth));
        harness.SetKeyScales(0, new KvKeyScales(g, [.. exponents.Select(e => (byte)(e % 16))]));
        HarnessSequence sequence = harness.Add(new SequenceData(g, 1, 1));
        harness.Begin((sequence, 2 * g.PageTokens));
        harness.Append(0, HardVectors.Make(2 * g.PageTokens, 2, g.KeyWidth, 71), HardVectors.Make(2 * g.PageTokens, 2, g.ValueWidth, 72));
        Assert.Null(harness.End());
        var written = new List<(string, bool, byte[])>();
        for (int head = 0; head < 2; head++)
        {
            int keyRow = harness.KeyRow(sequence, 0, head);
            for (int target = 1; target < shape.Classes.Count; target++)
            {
                Write(sequence.Rows[0, head][0].Slot, KernelShape.Open, target, g.PageTokens, keyRow);
                Write(sequence.Rows[0, head][1].Slot, KernelShape.Open, target, head == 0 ? g.PageTokens - 1 : Math.Min(g.PageTokens, 5 + target), keyRow);
            }

            int i8 = Write(sequence.Rows[0, head][0].Slot, KernelShape.Open, 1, g.PageTokens, keyRow);
            for (int target = 2; target <= 4; target++)
            {
                Write(i8, 1, target, g.PageTokens, keyRow);
                Write(i8, 1, target, Math.Max(1, g.PageTokens - target), keyRow);
            }
        }

        return written;

        int Write(int source, int sourceClass, int targetClass, int tokens, int keyRow)
        {
            int target = harness.TakeSlot();
            bool[] kept = [false];
            harness.Tier.Transcode([new PageMove(source, sourceClass, target, targetClass, tokens, KeyRow: keyRow)], kept);
            written.Add(($"{shape.Classes[sourceClass]} to {shape.Classes[targetClass]}, {tokens} tokens", kept[0], harness.ReadBytes(target, targetClass)));
            return target;
        }
    }

    /// <summary>Counts the appends that are asked for, and those that are taken.</summary>
    private sealed class Counted(CudaMoves inner) : IMoveKernels, IAppendKernel
    {
        private IAppendKernel? _append;

        public int Asked { get; private set; }

        public int Taken { get; private set; }

        public IPartMove? Move(PartPair pair) => inner.Move(pair);

        public IAppendKernel? Append(KvGeometry geometry, PageLayout open)
        {
            _append = inner.Append(geometry, open);
            return this;
        }

        public MergeLauncher Merge(KvGeometry geometry, MergeLauncher portable) => portable;

        public ScoreLauncher? Score() => null;

        public bool TryEnqueue(AcceleratorStream stream, ArrayView<int> arena, ArrayView<int> batch, BatchPairs pairs, KernelDims dims)
        {
            bool isTaken = _append!.TryEnqueue(stream, arena, batch, pairs, dims);
            (Asked, Taken) = (Asked + 1, Taken + (isTaken ? 1 : 0));
            return isTaken;
        }
    }

    /// <summary>One accelerator for all cases, so that each kernel is compiled once.</summary>
    public sealed class Device : IDisposable
    {
        private readonly Lazy<(Context Context, Accelerator Accelerator)> _made = new(() =>
        {
            Context context = DeviceCompiler.CreateContext(builder => builder.Cuda());
            return (context, context.Devices.OfType<CudaDevice>().First().CreateAccelerator(context));
        });

        public Accelerator Accelerator => _made.Value.Accelerator;

        public void Dispose()
        {
            if (_made.IsValueCreated)
            {
                _made.Value.Accelerator.Dispose();
                _made.Value.Context.Dispose();
            }
        }
    }
}
