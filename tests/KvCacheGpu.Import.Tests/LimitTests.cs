namespace KvCacheGpu.Import.Tests;

/// <summary>For each limit, a file at the limit is read, and one beyond it is refused.</summary>
public sealed class LimitTests
{
    private static readonly ImportLimits Small = new() { Opcodes = 40, MemoEntries = 4, StackValues = 10, MarkDepth = 3, Depth = 4, TextBytes = 8, IntegerBytes = 4, GlobalNameBytes = 12 };

    [Theory]
    [InlineData("stack", "(NNNNNNNNNNt.", "(NNNNNNNNNNNt.")]
    [InlineData("MARK depth", "(((ttt.", "((((tttt.")]
    [InlineData("depth", "N\u0085\u0085\u0085\u0085.", "N\u0085\u0085\u0085\u0085\u0085.")]
    [InlineData("text", "\u008c\u000812345678.", "\u008c\u0009123456789.")]
    [InlineData("integer", "\u008a\u00041234.", "\u008a\u000512345.")]
    [InlineData("GLOBAL", "ctorch\nfloat16\n.", "cnumpy.core.multi\nscalar\n.")]
    [InlineData("BINPUT", "Nq\u0003.", "Nq\u0004.")]
    [InlineData("MEMOIZE", "N\u0094\u0094\u0094\u0094.", "N\u0094\u0094\u0094\u0094\u0094.")]
    public void Of_a_stream_bind_exactly(string subject, string good, string bad)
    {
        using (CacheFile.Read(Fixture.Pickle(good), limits: Small))
        {
        }

        ImportException refused = Assert.Throws<ImportException>(() => CacheFile.Read(Fixture.Pickle(bad), limits: Small));
        Assert.Equal((subject, "E004"), (refused.Subject, refused.Code));
        Assert.NotNull(refused.Offset);
    }

    [Fact]
    public void Of_opcodes_count_each_but_the_first()
    {
        // 38 Nones, a MARK, a TUPLE and STOP.
        byte[] stream = Fixture.Pickle("(" + new string('N', 38) + "t.");
        using (CacheFile.Read(stream, limits: new ImportLimits { Opcodes = 41 }))
        {
        }

        Assert.Equal("opcodes", Assert.Throws<ImportException>(() => CacheFile.Read(stream, limits: new ImportLimits { Opcodes = 40 })).Subject);
    }

    [Fact]
    public void Of_pickle_bytes_leave_payload_out()
    {
        byte[] payload = Fixture.Pickle("B\u00ff\0\0\0" + new string('x', 255) + ".");
        using (CacheFile.Read(payload, limits: new ImportLimits { PickleBytes = 8 }))
        {
        }

        Assert.Equal("pickle bytes", Assert.Throws<ImportException>(() => CacheFile.Read(payload, limits: new ImportLimits { PickleBytes = 7 })).Subject);
    }

    [Fact]
    public void Of_what_an_object_unfolds_to_stop_a_bomb_of_shared_parts()
    {
        // Each tuple holds the one before it three times: 3^30 values in 31 containers.
        string bomb = ")q\0" + string.Concat(Enumerable.Range(1, 30).Select(i => $"h{(char)(i - 1)}h{(char)(i - 1)}\u0087q{(char)i}")) + ".";
        Assert.Equal("values of one object", Assert.Throws<ImportException>(() => CacheFile.Read(Fixture.Pickle(bomb))).Subject);
    }

    [Theory]
    [InlineData("tensors", "zip_kv.pt")]
    [InlineData("tensor bytes", "zip_kv.pt")]
    [InlineData("members", "zip_kv.pt")]
    [InlineData("members", "tar_kv.pt")]
    [InlineData("tensors", "plain_numpy_p4.pkl")]
    public void Of_tensors_and_members_bind(string subject, string name)
    {
        ImportLimits none = subject switch
        {
            "tensors" => new ImportLimits { Tensors = 2 },
            "tensor bytes" => new ImportLimits { TensorBytes = 300 },
            _ => new ImportLimits { Members = 2 },
        };
        Assert.Equal(subject, Assert.Throws<ImportException>(() => CacheFile.Open(Fixture.Path(name), limits: none)).Subject);
    }

    [Fact]
    public void A_torch_file_may_lie_within_a_pickle_and_no_third_within_that()
    {
        // Its tensors are torch files of their own, as bytes within the stream.
        byte[] inner = File.ReadAllBytes(Fixture.Path("plain_torch_p4.pkl"));
        using (CacheFile file = CacheFile.Read(inner))
        {
            Assert.NotEmpty(file.Tensors);
        }

        byte[] outer =
        [
            .. Fixture.Pickle("ctorch.storage\n_load_from_bytes\nB"), .. BitConverter.GetBytes(inner.Length), .. inner,
            (byte)Opcode.TUPLE1, (byte)Opcode.REDUCE, (byte)Opcode.STOP,
        ];
        ImportException refused = Assert.Throws<ImportException>(() => CacheFile.Read(outer));
        Assert.Equal(("REDUCE of torch.storage._load_from_bytes", "E009"), (refused.Subject, refused.Code));
    }

    [Theory]
    [InlineData("\u008d\0\0\0\0\0\0\0@")]
    [InlineData("\u008e\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff")]
    [InlineData("\u0096\0\0\0\0\0\u0001\0\0")]
    [InlineData("X\u00ff\u00ff\u00ff\u00ff")]
    [InlineData("B\u00ff\u00ff\u00ff\u007f")]
    [InlineData("\u0095\0\0\0\0\0\0\0\u0080")]
    [InlineData("\u008b\u00ff\u00ff\u00ff\u007f")]
    public void A_length_is_refused_before_it_is_allocated(string opcodes)
    {
        byte[] bytes = Fixture.Pickle(opcodes + ".", 5);
        Assert.Throws<ImportException>(() => CacheFile.Read(bytes));
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Throws<ImportException>(() => CacheFile.Read(bytes));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 1, 64 << 10);
    }

    [Theory]
    [InlineData("INST", "(i")]
    [InlineData("OBJ", "(o")]
    [InlineData("NEWOBJ", "))\u0081")]
    [InlineData("NEWOBJ_EX", ")))\u0092")]
    [InlineData("EXT1", "\u0082\u0001")]
    [InlineData("EXT2", "\u0083\u0001\0")]
    [InlineData("EXT4", "\u0084\u0001\0\0\0")]
    [InlineData("PERSID", "P")]
    [InlineData("BINPERSID", "NQ")]
    [InlineData("POP", "N0")]
    [InlineData("POP_MARK", "(1")]
    [InlineData("DUP", "N2")]
    [InlineData("EMPTY_SET", "\u008f")]
    [InlineData("ADDITEMS", "(\u0090")]
    [InlineData("FROZENSET", "(\u0091")]
    [InlineData("BINSTRING", "T")]
    [InlineData("INT", "I1\n")]
    [InlineData("LONG", "L1\n")]
    [InlineData("FLOAT", "F1\n")]
    [InlineData("STRING", "S'a'\n")]
    [InlineData("UNICODE", "Va\n")]
    [InlineData("LIST", "(l")]
    [InlineData("DICT", "(d")]
    [InlineData("PUT", "Np0\n")]
    [InlineData("GET", "g0\n")]
    [InlineData("opcode 0xff", "\u00ff")]
    public void An_opcode_beyond_plain_data_is_refused_by_name_and_place(string name, string opcodes)
    {
        ImportException refused = Assert.Throws<ImportException>(() => CacheFile.Read(Fixture.Pickle(opcodes + ".")));
        int at = opcodes.TakeWhile(c => c is '(' or ')' or 'N').Count();
        Assert.Equal(("E009", name, 2 + at), (refused.Code, refused.Subject, (int)refused.Offset!.Value));
    }

    [Theory]
    [InlineData("]h\0a.")]
    [InlineData("]q\0h\0a.")]
    [InlineData("]q\0\u0085h\0Na.")]
    [InlineData("}(N\u0085.")]
    [InlineData("}(NNNu.")]
    [InlineData("}]Ns.")]
    [InlineData("}(NNNNu.")]
    [InlineData("NN.")]
    [InlineData("(N.")]
    [InlineData("N.N.")]
    public void Malformed_containers_are_refused(string opcodes) =>
        Assert.Throws<ImportException>(() => CacheFile.Read(Fixture.Pickle(opcodes)));
}
