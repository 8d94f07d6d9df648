using ILGPU;
using ILGPU.Runtime;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>
/// A group of caches over devices attends as one cache on the host does, with a thread and tensors of its own on each device, and its snapshot goes on elsewhere.
/// </summary>
public abstract class GroupConformance
{
    // Relative to an output's norm: both tiers are within half of this bound from the oracle.
    private const double Bound = 2e-5;

    private static readonly KvGeometry _geometry = new(layers: 2, queryHeads: 8, kvHeads: 4, keyWidth: 16, pageTokens: 4);

    /// <summary>Two devices, which may be the same.</summary>
    protected abstract IReadOnlyList<string> Devices { get; }

    public static TheoryData<int, PageFormat, PageFormat> Cases => new()
    {
        { 1, PageFormat.F16, PageFormat.F16 },
        { 2, PageFormat.I8, PageFormat.I8 },
        { 1, PageFormat.T4, PageFormat.V4 },
    };

    /// <param name="stages">1 for shards of the KV heads, 2 for halves of the layers.</param>
    /// <param name="key">Format of sealed keys.</param>
    /// <param name="value">Format of sealed values.</param>
    [Theory]
    [MemberData(nameof(Cases))]
    public async Task A_group_over_devices_attends_as_one_cache_on_the_host(int stages, PageFormat key, PageFormat value)
    {
        KvCacheOptions options = Options(key, value);
        using var whole = new KvCache(_geometry, options);
        using var group = new KvCacheGroup(_geometry, options, KvPart.ByLayersAndHeads(_geometry, stages, Devices));
        Assert.Equal(Devices, group.Parts.Select(part => part.Device.Id));
        using KvSequence one = whole.CreateSequence();
        using KvGroupSequence all = group.CreateSequence();
        var data = new SequenceData(_geometry, 60, seed: 5);
        int[] chunks = [19, 1, 1, 6, 1, 1, 1];
        Accelerator?[] accelerators = [.. group.Parts.Select(part => part.Accelerator)];
        AcceleratorStream?[] streams = [.. accelerators.Select(accelerator => accelerator?.CreateStream())];
        foreach (int tokens in chunks)
        {
            // Every other step on streams of the host's own.
            AssertNear(Step(one, data, tokens), Step(group, all, data, tokens, one.Length % 2 == 0 ? [] : streams));
        }

        Refused(group, all, data);
        RefuseWhatIsOfOtherDevices(group, all, streams);
        Array.ForEach(streams, stream => stream?.Dispose());
        string folder = Directory.CreateTempSubdirectory("group-").FullName;
        try
        {
            var store = new SnapshotStore(folder);
            await group.SaveAsync(store, "group");
            using var hosted = new KvCache(_geometry, options);
            using var shards = new KvCacheGroup(_geometry, options, KvPart.ByHeads(_geometry, [.. Devices, .. Devices]));
            KvRestored onHost = await hosted.LoadAsync(store, "group");
            KvGroupRestored onDevices = await shards.LoadAsync(store, "group");
            Assert.Equal((0, 0), (onHost.ReencodedPages, onDevices.ReencodedPages));
            float[] next = Step(group, all, data, 3);
            AssertNear(next, Step(onHost.Sequences[0], data, 3));
            AssertNear(next, Step(shards, onDevices.Sequences[0], data, 3));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static KvCacheOptions Options(PageFormat key, PageFormat value) => new()
    {
        Device = "cpu",
        MaxTokens = 256,
        MaxSequences = 2,
        MaxBatchTokens = 32,
        KeyFormat = key,
        ValueFormat = value,
        ModelFingerprint = "group",
        PoisonPages = true,
    };

    // A NaN in the memory of the last device: the step is rolled back on all of them.
    private static void Refused(KvCacheGroup group, KvGroupSequence all, SequenceData data)
    {
        int before = all.Length;
        using (KvGroupStep step = all.Begin([7]))
        {
            var output = new float[_geometry.Layers * _geometry.QueryHeads * _geometry.ValueWidth];
            for (int part = 0; part < group.Parts.Count; part++)
            {
                Run(group, step, part, data, before, output, lastKey: part == group.Parts.Count - 1 ? float.NaN : null);
            }

            Assert.Throws<KvNonFiniteException>(step.Commit);
        }

        Assert.All(all.Handles, part => Assert.Equal(before, part.Length));
    }

    // One stream too few, and, where the devices differ, streams and tensors of each other.
    private static void RefuseWhatIsOfOtherDevices(KvCacheGroup group, KvGroupSequence all, AcceleratorStream?[] streams)
    {
        int before = all.Length;
        KvStream[] own = [.. streams.Select(stream => stream is null ? default : (KvStream)stream)];
        Assert.Throws<ArgumentException>(() => all.Begin([7], own.AsSpan(1)));
        if (streams[0] is not null && group.Parts[0].Device.Id != group.Parts[1].Device.Id)
        {
            Assert.Throws<ArgumentException>(() => all.Begin([7], (KvStream[])[own[0], own[0]]));
        }

        Assert.All(all.Handles, part => Assert.Equal(before, part.Length));
        using KvGroupStep step = all.Begin([7], own);
        if (group.Parts[0].Accelerator is { } first && group.Parts[0].Device.Id != group.Parts[1].Device.Id)
        {
            // A tensor in the memory of the other device: the part is as it was, and takes the right one.
            KvPart second = group.Parts[1].Part;
            float[] numbers = new float[second.Heads.Count * _geometry.KeyWidth];
            using MemoryBuffer1D<float, Stride1D.Dense> strange = first.Allocate1D(numbers);
            Assert.Throws<ArgumentException>(() => step.Append(1, second.FirstLayer, Tensor(strange), numbers));
            step.Append(1, second.FirstLayer, numbers, numbers);
        }
    }

    // [layers][tokens][query heads][value width].
    private static float[] Step(KvSequence sequence, SequenceData data, int tokens)
    {
        int first = sequence.Length;
        int width = tokens * _geometry.QueryHeads * _geometry.ValueWidth;
        var output = new float[_geometry.Layers * width];
        using KvStep step = sequence.Begin(new int[tokens]);
        for (int layer = 0; layer < _geometry.Layers; layer++)
        {
            step.Append(layer, Cut(data.Keys[layer], first, tokens, 0, 4, 4), Cut(data.Values[layer], first, tokens, 0, 4, 4));
            step.Attend(layer, Cut(data.Queries[layer], first, tokens, 0, 8, 8), output.AsSpan(layer * width, width));
        }

        step.Commit();
        return output;
    }

    // A thread for each part.
    private static float[] Step(KvCacheGroup group, KvGroupSequence sequence, SequenceData data, int tokens, AcceleratorStream?[]? streams = null)
    {
        KvStream[] own = [.. (streams ?? []).Select(stream => stream is null ? default : (KvStream)stream)];
        int first = sequence.Length;
        var output = new float[_geometry.Layers * tokens * _geometry.QueryHeads * _geometry.ValueWidth];
        using KvGroupStep step = sequence.Begin(new int[tokens], own);
        Task.WaitAll([.. Enumerable.Range(0, group.Parts.Count).Select(part => Task.Run(() => Run(group, step, part, data, first, output, streams is null or [] ? null : streams[part])))]);
        step.Commit();
        return output;
    }

    private static void Run(KvCacheGroup group, KvGroupStep step, int part, SequenceData data, int first, float[] output, AcceleratorStream? stream = null, float? lastKey = null)
    {
        KvGroupPart own = group.Parts[part];
        int tokens = step.Tokens;
        (int heads, int queryHeads, int firstQuery) = (own.Geometry.KvHeads, own.Geometry.QueryHeads, own.Part.Heads.Start * _geometry.GroupSize);
        for (int layer = own.Part.FirstLayer; layer < own.Part.FirstLayer + own.Part.Layers; layer++)
        {
            float[] keys = Cut(data.Keys[layer], first, tokens, own.Part.Heads.Start, heads, _geometry.KvHeads);
            float[] values = Cut(data.Values[layer], first, tokens, own.Part.Heads.Start, heads, _geometry.KvHeads);
            float[] queries = Cut(data.Queries[layer], first, tokens, firstQuery, queryHeads, _geometry.QueryHeads);
            keys[^1] = lastKey ?? keys[^1];
            var mine = new float[tokens * queryHeads * _geometry.ValueWidth];
            if (own.Accelerator is { } accelerator)
            {
                OnDevice(accelerator, stream ?? accelerator.DefaultStream, step, part, layer, keys, values, queries, mine);
            }
            else
            {
                step.Append(part, layer, keys, values);
                step.Attend(part, layer, queries, mine);
            }

            for (int token = 0; token < tokens; token++)
            {
                int width = queryHeads * _geometry.ValueWidth;
                mine.AsSpan(token * width, width).CopyTo(output.AsSpan(((((layer * tokens) + token) * _geometry.QueryHeads) + firstQuery) * _geometry.ValueWidth));
            }
        }
    }

    // The tensors are written and the output is read on the step's stream, without a wait between.
    private static void OnDevice(
        Accelerator accelerator, AcceleratorStream stream, KvGroupStep step, int part, int layer, float[] keys, float[] values, float[] queries, float[] output)
    {
        using MemoryBuffer1D<float, Stride1D.Dense> k = On(accelerator, stream, keys), v = On(accelerator, stream, values), q = On(accelerator, stream, queries);
        using MemoryBuffer1D<float, Stride1D.Dense> o = accelerator.Allocate1D<float>(output.Length);
        step.Append(part, layer, Tensor(k), Tensor(v));
        step.Attend(part, layer, Tensor(q), KvOutput.FromDevice(o.View.BaseView));
        o.View.BaseView.CopyToCPU(stream, output);
        stream.Synchronize();
    }

    private static MemoryBuffer1D<float, Stride1D.Dense> On(Accelerator accelerator, AcceleratorStream stream, float[] numbers)
    {
        MemoryBuffer1D<float, Stride1D.Dense> buffer = accelerator.Allocate1D<float>(numbers.Length);
        buffer.View.BaseView.CopyFromCPU(stream, numbers);
        return buffer;
    }

    private static KvTensor Tensor(MemoryBuffer1D<float, Stride1D.Dense> buffer) => KvTensor.FromDevice(((ArrayView<float>)buffer.View.BaseView).Cast<byte>(), TensorType.F32);

    // Some tokens and heads of [tokens][heads][width].
    private static float[] Cut(float[] all, int first, int tokens, int firstHead, int heads, int ofHeads)
    {
        int width = _geometry.KeyWidth;
        var cut = new float[tokens * heads * width];
        for (int token = 0; token < tokens; token++)
        {
            all.AsSpan((((first + token) * ofHeads) + firstHead) * width, heads * width).CopyTo(cut.AsSpan(token * heads * width));
        }

        return cut;
    }

    private static void AssertNear(float[] wanted, float[] got)
    {
        double norm = Math.Sqrt(wanted.Sum(x => (double)x * x));
        double off = Math.Sqrt(wanted.Zip(got, (a, b) => (double)(a - b) * (a - b)).Sum());
        WorstError.Note(off / norm, Bound);
        Assert.True(off <= Bound * norm, $"off by {off} of {norm}");
    }
}
