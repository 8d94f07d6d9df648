namespace KvCacheGpu.Base.Tests;

/// <summary>One code, one meaning; the numbers of an error can be read without parsing its message.</summary>
public class ErrorTests
{
    private static readonly KvCacheException[] Each =
    [
        new KvOutOfMemoryException(new KvShortage("a step", KvResource.BudgetBytes, 12288, 4096)),
        new KvSnapshotNotFoundException("a", "b", "c"),
        new KvConfigurationException("a", "b", "c"),
        new KvCorruptionException("a", "b", "c"),
        new KvNonFiniteException(1, 2, 3, isValue: true, 65520),
        new KvPersistenceException("a", "b", "c"),
        new KvConcurrencyException("a", "b", "c"),
        new KvStoreBusyException("a", "b", "c"),
        new KvNewerVersionException("a", "b", "c"),
        new KvUnsupportedException("a", "b", "c"),
        new KvStepOrderException("a", "b", "c"),
    ];

    public static TheoryData<string, Type[]> Codes => new()
    {
        { "E001", [typeof(KvOutOfMemoryException)] },
        { "E002", [typeof(KvSnapshotNotFoundException)] },
        { "E003", [typeof(KvConfigurationException)] },
        { "E004", [typeof(KvCorruptionException), typeof(KvNonFiniteException)] },
        { "E005", [typeof(KvPersistenceException)] },
        { "E006", [typeof(KvConcurrencyException), typeof(KvStoreBusyException)] },
        { "E007", [typeof(KvNewerVersionException)] },
        { "E009", [typeof(KvUnsupportedException)] },
        { "E010", [typeof(KvStepOrderException)] },
    };

    [Theory]
    [MemberData(nameof(Codes))]
    public void A_code_belongs_to_the_errors_of_one_meaning(string code, Type[] types)
    {
        Assert.Equal(types.Select(type => type.Name), Each.Where(error => error.Code == code).Select(error => error.GetType().Name).Order());
        Assert.All(Each.Where(error => error.Code == code), error => Assert.StartsWith($"{code}: ", error.Message, StringComparison.Ordinal));
    }

    [Fact]
    public void Every_error_type_has_a_code_here()
    {
        IEnumerable<string> all = typeof(KvCacheException).Assembly.GetExportedTypes().Where(type => type.IsSubclassOf(typeof(KvCacheException))).Select(type => type.Name);
        Assert.Equal(all.Order(), Each.Select(error => error.GetType().Name).Order());
        Assert.Equal(Each.Select(error => error.Code).Distinct().Order(), Codes.Select(row => (string)row[0]));
    }

    [Fact]
    public void The_guide_names_every_error_under_its_code()
    {
        string[] rows = [.. File.ReadLines(Path.Combine(Root(), "docs", "troubleshooting.md")).Where(line => line.StartsWith("| E", StringComparison.Ordinal))];
        foreach (KvCacheException error in Each)
        {
            Assert.Contains($"`{error.GetType().Name}`", Assert.Single(rows, row => row.StartsWith($"| {error.Code} |", StringComparison.Ordinal)), StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Missing_memory_says_how_much_was_needed_and_how_much_was_free()
    {
        var shortage = new KvShortage("a step", KvResource.BudgetBytes, 12288, 4096) { Sequence = 7 };
        var error = new KvOutOfMemoryException(shortage) { Sequence = "chat" };
        Assert.Equal("E001: a step of sequence 7 needs 12288 bytes of the memory budget; 4096 are free", error.Message);
        Assert.Equal((shortage, "a step", 12288L, 4096L, "bytes", "chat", false), (error.Shortage, error.Resource, error.Needed, error.Free, error.Unit, error.Sequence, error.IsTransient));
        Assert.Equal((8192L, 7L, null), (shortage.Missing, shortage.Sequence, shortage.Tenant));
        Assert.Equal(0, new KvShortage("a step", KvResource.StepMemoryBytes, 2, -1).Free);
    }

    [Theory]
    [InlineData(KvResource.BudgetBytes, "bytes", "a load needs 5 bytes of the memory budget; 3 are free")]
    [InlineData(KvResource.SlabBytes, "bytes", "a load needs 5 bytes in slabs of its pages' sizes; 3 are free")]
    [InlineData(KvResource.StepMemoryBytes, "bytes", "a load needs 5 bytes of working memory, which other steps hold; 3 are free")]
    [InlineData(KvResource.DeviceBytes, "bytes", "a load needs 5 bytes of device memory; the device has less")]
    [InlineData(KvResource.Sequences, "sequences", "a load needs 5 of the places for live sequences; 3 are free")]
    [InlineData(KvResource.SequenceTokens, "tokens", "a load needs 5 of the tokens that a sequence may have; 3 are free")]
    [InlineData(KvResource.TenantBytes, "bytes", "a load needs 5 bytes of the quota of tenant 'acme'; 3 are free")]
    [InlineData(KvResource.TenantTokens, "tokens", "a load needs 5 tokens of the quota of tenant 'acme'; 3 are free")]
    [InlineData(KvResource.SwapBytes, "bytes", "a load needs 5 bytes of host memory for what is swapped out; 3 are free")]
    public void A_shortage_is_a_sentence_of_its_numbers(KvResource resource, string unit, string sentence)
    {
        var shortage = new KvShortage("a load", resource, 5, 3) { Tenant = "acme" };
        Assert.Equal((sentence, unit, resource == KvResource.StepMemoryBytes), ($"{shortage}", shortage.Unit, shortage.IsTransient));
        Assert.Equal($"E001: {sentence}", new KvOutOfMemoryException(shortage).Message);
    }

    [Fact]
    public void Every_resource_has_a_sentence_above()
    {
        var method = typeof(ErrorTests).GetMethod(nameof(A_shortage_is_a_sentence_of_its_numbers))!;
        IEnumerable<object> said = method.GetCustomAttributesData().Where(data => data.AttributeType == typeof(InlineDataAttribute))
            .Select(data => ((IReadOnlyList<System.Reflection.CustomAttributeTypedArgument>)data.ConstructorArguments[0].Value!)[0].Value!);
        Assert.Equal(Enum.GetValues<KvResource>().Select(resource => (int)resource), said.Cast<int>().Order());
    }

    [Fact]
    public void An_error_that_is_about_no_amount_has_none()
    {
        Assert.All(Each.Where(error => error is not KvOutOfMemoryException), error => Assert.Equal((null, null, null), (error.Needed, error.Free, error.Unit)));
        Assert.All(Each, error => Assert.Null(error.Sequence));
    }

    [Fact]
    public void A_number_that_is_not_finite_is_named_by_its_place_in_the_step_and_in_the_sequence()
    {
        var error = new KvNonFiniteException(3, 5, 1, isValue: false, 65520);
        KvNonFiniteException named = error.In("chat", 100);
        Assert.Equal(("key of layer 3, token 5, KV head 1", (string?)null), (error.Resource, error.Sequence));
        Assert.Equal(("sequence 'chat', key of layer 3, token 105, KV head 1", "chat", 105), (named.Resource, named.Sequence, named.Token));
    }

    private static string Root()
    {
        string folder = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(folder, "KvCacheGpu.sln")))
        {
            folder = Path.GetDirectoryName(folder)!;
        }

        return folder;
    }
}
