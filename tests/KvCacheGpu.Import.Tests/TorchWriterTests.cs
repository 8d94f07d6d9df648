namespace KvCacheGpu.Import.Tests;

public sealed class TorchWriterTests
{
    private static float Element(int layer, int index, bool isValue) => ((layer * 1000) + index + (isValue ? 0.5f : 0)) / 64;

    private static TorchSequence Sequence(string name, int tokens, ImportGeometry shape) => new(name, tokens, (layer, first, count, keys, values) =>
    {
        for (int i = 0; i < keys.Length; i++)
        {
            keys[i] = Element(layer, (first * shape.Heads * shape.KeyWidth) + i, false);
        }

        for (int i = 0; i < values.Length; i++)
        {
            values[i] = Element(layer, (first * shape.Heads * shape.ValueWidth) + i, true);
        }
    });

    private static string Write(ImportGeometry shape, ElementType type, params TorchSequence[] sequences)
    {
        string path = Path.Combine(Directory.CreateTempSubdirectory("kvcache-import-").FullName, "cache.pt");
        using FileStream stream = File.Create(path);
        TorchWriter.Write(stream, shape, type, sequences);
        return path;
    }

    [Theory]
    [InlineData(ElementType.Float32, 1)]
    [InlineData(ElementType.Float16, 3)]
    [InlineData(ElementType.BFloat16, 2)]
    public void What_is_written_reads_back(ElementType type, int layers)
    {
        ImportGeometry shape = new(layers, 2, 4, 8);
        string path = Write(shape, type, Sequence("a", 300, shape), Sequence("\u00e9/..", 1, shape));
        using (CacheFile file = CacheFile.Open(path))
        {
            Assert.Equal(CacheFormat.TorchZip, file.Format);
            Assert.All(file.Tensors, t => Assert.Equal(type, t.Tensor.Type));
            MappedCache mapped = MappedCache.Of(file, shape);
            Assert.Equal((2, 0, 0), (mapped.Count(EntryOutcome.Imported), mapped.Count(EntryOutcome.Quarantined), mapped.Count(EntryOutcome.Refused)));
            Assert.Equal(["a", "\u00e9/.."], mapped.Sequences.Select(s => s.Name));
            float[] keys = new float[3 * 2 * 4];
            float[] values = new float[3 * 2 * 8];
            mapped.Sequences[0].Read(layers - 1, 255, 3, keys, values);
            float tolerance = type == ElementType.Float32 ? 0 : type == ElementType.Float16 ? 1f / 1024 : 1f / 128;
            Assert.All(keys.Index(), k => Assert.InRange(k.Item, Element(layers - 1, (255 * 8) + k.Index, false) * (1 - tolerance), Element(layers - 1, (255 * 8) + k.Index, false) * (1 + tolerance)));
            Assert.All(values.Index(), v => Assert.InRange(v.Item, Element(layers - 1, (255 * 16) + v.Index, true) * (1 - tolerance), Element(layers - 1, (255 * 16) + v.Index, true) * (1 + tolerance)));
        }

        Directory.Delete(Path.GetDirectoryName(path)!, recursive: true);
    }

    [TorchTheory]
    [InlineData(ElementType.Float32)]
    [InlineData(ElementType.Float16)]
    [InlineData(ElementType.BFloat16)]
    public void PyTorch_loads_it_with_weights_only(ElementType type)
    {
        const string Script = """
            import sys, torch, hashlib
            for name, layers in torch.load(sys.argv[1], weights_only=True).items():
                for i, (k, v) in enumerate(layers):
                    for t in (k, v):
                        t = t.contiguous()
                        raw = t.view(torch.int16) if t.dtype == torch.bfloat16 else t
                        print(str(t.dtype)[6:], list(t.shape), hashlib.sha256(raw.numpy().tobytes()).hexdigest())
            """;
        ImportGeometry shape = new(2, 2, 4, 8);
        string path = Write(shape, type, Sequence("a", 70, shape));
        (int exit, string output, string error) = TorchTheoryAttribute.Run("-c", Script, path);
        Assert.Equal((0, string.Empty), (exit, error));
        using (CacheFile file = CacheFile.Open(path))
        {
            Assert.Equal(
                file.Tensors.Select(t => $"{t.Tensor.Type.Name()} [{string.Join(", ", t.Tensor.Shape)}] {Convert.ToHexStringLower(t.Tensor.Sha256())}"),
                output.Split('\n', StringSplitOptions.RemoveEmptyEntries));
        }

        Directory.Delete(Path.GetDirectoryName(path)!, recursive: true);
    }

    [Fact]
    public void Two_GiB_are_read_without_memory_for_them()
    {
        // A sparse storage of 2^29 + 2 binary32 in a legacy file: parts that are not written are read as zeros.
        const long Elements = (1L << 29) + 2;
        string folder = Directory.CreateTempSubdirectory("kvcache-import-").FullName;
        string path = Path.Combine(folder, "big.pt");
        using (FileStream stream = File.Create(path))
        {
            stream.Write(LegacyHead(Elements));
            stream.Write(BitConverter.GetBytes(Elements));
            stream.Position += (Elements - 1) * sizeof(float);
            stream.Write(BitConverter.GetBytes(7f));
        }

        long before = GC.GetAllocatedBytesForCurrentThread();
        using (CacheFile file = CacheFile.Open(path))
        {
            ImportTensor tensor = Assert.Single(file.Tensors).Tensor;
            Assert.Equal([2, Elements / 2], tensor.Shape);
            float[] last = new float[2];
            tensor.Read(Elements - 2, last.AsSpan());
            Assert.Equal([0f, 7f], last);
            Assert.Equal(32, tensor.Sha256().Length);
        }

        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 1, 8 << 20);
        Directory.Delete(folder, recursive: true);
    }

    [Theory]
    [InlineData('\udbff')]
    [InlineData('\udc07')]
    public void A_name_that_UTF_8_cannot_say_is_refused_before_anything_is_written(char half)
    {
        using MemoryStream stream = new();
        TorchSequence sequence = new($"half {half}", 1, (_, _, _, _, _) => { });
        Assert.ThrowsAny<ArgumentException>(() => TorchWriter.Write(stream, new ImportGeometry(1, 1, 2, 2), ElementType.Float32, [sequence]));
        Assert.Equal(0, stream.Length);
    }

    private static byte[] LegacyHead(long elements)
    {
        PickleOutput root = new();
        root.Global("torch._utils", "_rebuild_tensor_v2");
        root.Write(Opcode.MARK);
        root.Write(Opcode.MARK);
        root.Text("storage");
        root.Global("torch", "FloatStorage");
        root.Text("0");
        root.Text("cpu");
        root.Integer(elements);
        root.Write(Opcode.NONE);
        root.Write(Opcode.TUPLE);
        root.Write(Opcode.BINPERSID);
        root.Integer(0);
        root.Integers(2, elements / 2);
        root.Integers(elements / 2, 1);
        root.Write(Opcode.NEWFALSE);
        root.Global("collections", "OrderedDict");
        root.Write(Opcode.EMPTY_TUPLE);
        root.Write(Opcode.REDUCE);
        root.Write(Opcode.TUPLE);
        root.Write(Opcode.REDUCE);
        return
        [
            .. Fixture.Pickle("\u008a\u000al\u00fc\u009cF\u00f9 j\u00a8P\u0019.", 2), .. Fixture.Pickle("M\u00e9\u0003.", 2),
            .. Fixture.Pickle("}X\u000d\0\0\0little_endian\u0088s.", 2), .. root.Stop(), .. Fixture.Pickle("]X\u0001\0\0\u00000a.", 2),
        ];
    }
}
