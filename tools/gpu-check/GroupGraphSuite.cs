using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;
using KvCacheGpu.TestKit;
using Xunit;

namespace KvCacheGpu.GpuCheck;

/// <summary>Steps of a group over CUDA devices whose parts are captured, each in graphs of its own, and replayed.</summary>
public sealed class GroupGraphSuite
{
    private const int Steps = 40;

    private static readonly KvGeometry _geometry = new(layers: 2, queryHeads: 8, kvHeads: 4, keyWidth: 16, pageTokens: 4);

    /// <summary>The target and, where there is one, another device of its kind.</summary>
    private static string[] Devices
    {
        get
        {
            KvDeviceInfo target = TargetUnderTest.Target.Device;
            return [target.Id, KvDevice.List().FirstOrDefault(other => other.Usable && other.Kind == target.Kind && other.Id != target.Id)?.Id ?? target.Id];
        }
    }

    /// <param name="stages">1 for shards of the KV heads, 2 for halves of the layers.</param>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void A_group_over_devices_replays_graphs_of_each_part(int stages)
    {
        using var plain = new Host(stages);
        using var host = new Host(stages);
        for (int step = 0; step < Steps; step++)
        {
            Assert.Equal(plain.Step(step, graphs: false), host.Step(step, graphs: true));
        }

        // Pages are sealed, and rows come to more segments.
        Assert.True(host.Group.Parts.All(part => part.GetPageCounts().Sealed > 0), "no page was sealed");
        Assert.All(host.Parts, part => Assert.InRange(part.Graphs.Count, 1, Steps / 4));
        host.RefuseGraphsOfOtherParts(Steps);
    }

    private sealed class Host : IDisposable
    {
        private readonly KvGroupSequence _sequence;

        public Host(int stages)
        {
            var options = new KvCacheOptions { MaxTokens = 256, MaxSequences = 2, MaxBatchTokens = 8, KeyFormat = PageFormat.I8, ValueFormat = PageFormat.I8, ExactRollbackTokens = 4 };
            Group = new KvCacheGroup(_geometry, options, KvPart.ByLayersAndHeads(_geometry, stages, Devices));
            Parts = [.. Group.Parts.Select(part => new HostPart(part))];
            _sequence = Group.CreateSequence();
        }

        public KvCacheGroup Group { get; }

        public HostPart[] Parts { get; }

        /// <summary>A step of one token; returns the outputs of all parts.</summary>
        public float[] Step(int number, bool graphs)
        {
            foreach (HostPart part in Parts)
            {
                part.Write(number);
            }

            using KvGroupStep step = _sequence.Begin([number], [.. Parts.Select(part => (KvStream)part.Stream)]);
            for (int part = 0; part < Parts.Length; part++)
            {
                Parts[part].Run(step, part, graphs);
            }

            step.Commit();
            return [.. Parts.SelectMany(part => part.Read())];
        }

        /// <summary>A graph of one part is none of another's, and a part whose capture goes on is not committed; the step goes on.</summary>
        public void RefuseGraphsOfOtherParts(int number)
        {
            using KvGroupStep step = _sequence.Begin([number], [.. Parts.Select(part => (KvStream)part.Stream)]);
            Assert.All(Parts[1].Graphs.Values, graph => Assert.Throws<ArgumentException>(() => step.Replay(0, graph)));
            Assert.Throws<ArgumentOutOfRangeException>(() => step.ShapeOf(2));
            Parts[0].Run(step, 0, graphs: true);
            step.BeginCapture(1);
            Assert.Throws<KvStepOrderException>(step.Commit);
            step.EndCapture(1).Dispose();
            Parts[1].Run(step, 1, graphs: true);
            step.Commit();
        }

        public void Dispose()
        {
            _sequence.Dispose();
            Group.Dispose();
            Array.ForEach(Parts, part => part.Dispose());
        }
    }

    /// <summary>A part with tensors that lie at the same addresses in each step.</summary>
    private sealed class HostPart : IDisposable
    {
        private readonly KvGroupPart _part;
        private readonly SequenceData _data;
        private readonly MemoryBuffer1D<float, Stride1D.Dense>[] _keys;
        private readonly MemoryBuffer1D<float, Stride1D.Dense>[] _values;
        private readonly MemoryBuffer1D<float, Stride1D.Dense>[] _queries;
        private readonly MemoryBuffer1D<float, Stride1D.Dense>[] _outputs;
        private readonly CudaAccelerator _accelerator;

        public HostPart(KvGroupPart part)
        {
            (_part, _accelerator) = (part, (CudaAccelerator)part.Accelerator!);
            KvGeometry g = part.Geometry;
            _data = new SequenceData(g, Steps + 1, seed: 31 + part.Part.FirstLayer + part.Part.Heads.Start);
            Stream = _accelerator.CreateStream();
            (_keys, _values) = (Buffers(g.KvHeads * g.KeyWidth), Buffers(g.KvHeads * g.ValueWidth));
            (_queries, _outputs) = (Buffers(g.QueryHeads * g.KeyWidth), Buffers(g.QueryHeads * g.ValueWidth));
            Assert.True(part.HasGraphs);
        }

        public AcceleratorStream Stream { get; }

        public Dictionary<KvStepShape, KvStepGraph> Graphs { get; } = [];

        public void Write(int step)
        {
            for (int layer = 0; layer < _keys.Length; layer++)
            {
                Copy(_data.Keys[layer], _keys[layer], step);
                Copy(_data.Values[layer], _values[layer], step);
                Copy(_data.Queries[layer], _queries[layer], step);
            }

            Stream.Synchronize();
        }

        public void Run(KvGroupStep step, int part, bool graphs)
        {
            if (!graphs)
            {
                Layers(step, part);
                return;
            }

            if (!Graphs.TryGetValue(step.ShapeOf(part), out KvStepGraph? graph))
            {
                step.BeginCapture(part);
                Layers(step, part);
                Graphs.Add(step.ShapeOf(part), graph = step.EndCapture(part));
            }

            step.Replay(part, graph);
        }

        public IEnumerable<float> Read()
        {
            Stream.Synchronize();
            return _outputs.SelectMany(output => output.GetAsArray1D());
        }

        public void Dispose()
        {
            foreach (KvStepGraph graph in Graphs.Values)
            {
                graph.Dispose();
            }
        }

        private void Layers(KvGroupStep step, int part)
        {
            for (int layer = 0; layer < _keys.Length; layer++)
            {
                step.Append(part, _part.Part.FirstLayer + layer, KvTensor.FromDevice(_keys[layer].View.BaseView), KvTensor.FromDevice(_values[layer].View.BaseView));
                step.Attend(part, _part.Part.FirstLayer + layer, KvTensor.FromDevice(_queries[layer].View.BaseView), KvOutput.FromDevice(_outputs[layer].View.BaseView));
            }
        }

        private MemoryBuffer1D<float, Stride1D.Dense>[] Buffers(int floats) => [.. Enumerable.Range(0, _part.Geometry.Layers).Select(_ => _accelerator.Allocate1D<float>(floats))];

        private void Copy(float[] all, MemoryBuffer1D<float, Stride1D.Dense> buffer, int step) =>
            buffer.View.CopyFromCPU(Stream, all.AsSpan(step * (int)buffer.Length, (int)buffer.Length).ToArray());
    }
}
