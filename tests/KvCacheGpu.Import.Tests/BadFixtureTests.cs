namespace KvCacheGpu.Import.Tests;

public sealed class BadFixtureTests
{
    public static TheoryData<string> Files { get; } = new(Fixture.Names("bad_*"));

    [Theory]
    [MemberData(nameof(Files))]
    public void Is_refused_with_bounded_memory_and_runs_nothing(string name)
    {
        byte[] bytes = File.ReadAllBytes(Fixture.Path(name));
        long before = GC.GetAllocatedBytesForCurrentThread();
        ImportException fromMemory = Assert.Throws<ImportException>(() => CacheFile.Read(bytes));
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        ImportException fromFile = Assert.Throws<ImportException>(() => CacheFile.Open(Fixture.Path(name)));

        Assert.Equal(fromMemory.Message, fromFile.Message);
        Assert.Contains(fromMemory.Code, new[] { "E004", "E009" });
        Assert.StartsWith(fromMemory.Code + ": ", fromMemory.Message, StringComparison.Ordinal);
        Assert.InRange(allocated, 1, 64 << 20);
        Assert.False(File.Exists("pickle-payload-ran"));
        Assert.False(File.Exists(Fixture.Path("pickle-payload-ran")));
    }

    [Theory]
    [InlineData("bad_os_system_p2.pkl", "global posix.system", 2)]
    [InlineData("bad_eval.pkl", "global __builtin__.eval", 2)]
    [InlineData("bad_ext1.pkl", "EXT1", 2)]
    [InlineData("bad_stack_global_memo.pkl", "POP", 16)]
    [InlineData("bad_newobj_unknown.pkl", "global subprocess.Popen", 2)]
    [InlineData("bad_persid_ascii.pkl", "PERSID", 2)]
    [InlineData("bad_object_array.pkl", "numpy.dtype", null)]
    [InlineData("bad_pt_torchscript.pt", "member constants.pkl", null)]
    [InlineData("bad_pt_dup_member.pt", "member archive/data.pkl", null)]
    [InlineData("bad_zip_deflated.pt", "member zip_kv/data.pkl", null)]
    [InlineData("bad_pt_zero_stride_bomb.pt", "tensor", null)]
    [InlineData("bad_pt_crc_of_some.pt", "member zip_kv/data.pkl", null)]
    [InlineData("bad_pt_tensor_in_attribute.pt", "BUILD", null)]
    [InlineData("bad_dynamic_cache.pkl", "global transformers.cache_utils.DynamicCache", 2)]
    [InlineData("bad_module.pkl", "global torch.nn.modules.linear.Linear", 2)]
    public void Is_refused_for_what_is_wrong_with_it(string name, string subject, int? offset)
    {
        ImportException refused = Assert.Throws<ImportException>(() => CacheFile.Open(Fixture.Path(name)));
        Assert.Equal(subject, refused.Subject);
        if (offset is { } at)
        {
            Assert.Equal(at, refused.Offset);
        }
        else
        {
            Assert.NotNull(refused.Offset);
        }
    }

    [Theory]
    [InlineData("bad_dynamic_cache.pkl", "cache.to_legacy_cache()")]
    [InlineData("bad_module.pkl", "module.state_dict()")]
    public void An_object_that_people_save_whole_is_refused_with_what_to_save_instead(string name, string instead)
    {
        ImportException refused = Assert.Throws<ImportException>(() => CacheFile.Open(Fixture.Path(name)));
        Assert.Equal("E009", refused.Code);
        Assert.Contains(instead, refused.Expected, StringComparison.Ordinal);
    }
}
