using System.Globalization;
using System.Text.Json;

namespace KvCacheGpu.Import.Tests;

public sealed class GoodFixtureTests
{
    private static readonly JsonElement Expected = JsonDocument.Parse(File.ReadAllText(Fixture.Path("expected.json"))).RootElement;

    public static TheoryData<string> Files { get; } = new(Expected.EnumerateObject().Select(p => p.Name));

    [Fact]
    public void Every_good_file_is_expected() => Assert.Equal(
        Fixture.Names("*.p*").Where(n => !n.StartsWith("bad_", StringComparison.Ordinal) && !n.EndsWith(".py", StringComparison.Ordinal)),
        Expected.EnumerateObject().Select(p => p.Name).Order(StringComparer.Ordinal));

    [Theory]
    [MemberData(nameof(Files))]
    public void Reads_to_the_values_that_Python_wrote(string name)
    {
        using CacheFile file = Fixture.Open(name);
        Dictionary<string, string> values = [];
        foreach ((System.Text.StringBuilder path, PickleValue leaf) in PickleWalk.Leaves(file.Root))
        {
            if (leaf is not (GlobalValue or InertValue))
            {
                values.Add(path.ToString(), leaf is TensorValue tensor ? Describe(tensor.Tensor!) : Fixture.Repr(leaf));
            }
        }

        foreach (JsonProperty expected in Expected.GetProperty(name).EnumerateObject())
        {
            string text = expected.Value.TryGetProperty("value", out JsonElement value) ? value.GetString()! : Describe(expected.Value);
            Assert.True(values.Remove(expected.Name, out string? actual), $"{name} lacks {expected.Name}");
            Assert.Equal(text, actual);
        }

        // torch.Size is no value to the generator of expected.json.
        Assert.All(values.Keys, path => Assert.StartsWith("/'size'/", path, StringComparison.Ordinal));
    }

    [Theory]
    [MemberData(nameof(Files))]
    public void Reads_the_same_from_memory(string name)
    {
        using CacheFile file = Fixture.Open(name);
        using CacheFile memory = CacheFile.Read(File.ReadAllBytes(Fixture.Path(name)), [.. Fixture.Buffers(name).Select(b => (ReadOnlyMemory<byte>)File.ReadAllBytes(b))]);
        Assert.Equal(file.Format, memory.Format);
        Assert.Equal(file.Tensors.Select(t => t.Path + Describe(t.Tensor)), memory.Tensors.Select(t => t.Path + Describe(t.Tensor)));
    }

    [Theory]
    [MemberData(nameof(Files))]
    public void Any_part_of_a_tensor_reads_as_it_does_in_the_whole(string name)
    {
        using CacheFile file = Fixture.Open(name);
        foreach (ImportTensor tensor in file.Tensors.Select(t => t.Tensor))
        {
            int size = tensor.Type.Bytes();
            byte[] whole = new byte[tensor.Count * size];
            tensor.Read(0, whole.AsSpan());
            for (int first = 0; first < tensor.Count; first++)
            {
                byte[] part = new byte[Math.Min(3, tensor.Count - first) * size];
                tensor.Read(first, part.AsSpan());
                Assert.Equal(whole.AsSpan(first * size, part.Length).ToArray(), part);
            }

            Assert.Throws<ArgumentOutOfRangeException>(() => tensor.Read(tensor.Count, new byte[size].AsSpan()));
        }
    }

    private static string Describe(ImportTensor tensor) =>
        $"{tensor.Type.Name()} [{string.Join(", ", tensor.Shape)}] {Convert.ToHexStringLower(tensor.Sha256())}";

    private static string Describe(JsonElement tensor) =>
        $"{tensor.GetProperty("dtype").GetString()!.Replace("torch.", string.Empty, StringComparison.Ordinal)} "
        + $"[{string.Join(", ", tensor.GetProperty("shape").EnumerateArray().Select(s => s.GetInt64().ToString(CultureInfo.InvariantCulture)))}] "
        + tensor.GetProperty("sha256").GetString();
}
