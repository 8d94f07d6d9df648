namespace KvCacheGpu.Configuration.Tests.Versions;

/// <summary>Forms of files that people write, and forms that are refused with the file untouched.</summary>
public class EditTests
{
    private const string New = "enable_prefetch";

    [Theory]
    [InlineData("c.yaml", "kv_cache: {max_tokens: 1}", "kv_cache: {max_tokens: 1, enable_prefetch: true, prefetch_size: 8}")]
    [InlineData("c.yaml", "kv_cache: {}\n", "kv_cache: {enable_prefetch: true, prefetch_size: 8}\n")]
    [InlineData("c.yaml", "kv_cache:\n    max_tokens: 1", "kv_cache:\n    max_tokens: 1\n    enable_prefetch: true\n    prefetch_size: 8")]
    [InlineData("c.yaml", "kv_cache:\n  max_tokens: 1\n# of the root\nx: 1\n", "kv_cache:\n  max_tokens: 1\n  enable_prefetch: true\n  prefetch_size: 8\n# of the root\nx: 1\n")]
    [InlineData("c.yaml", "kv_cache:\n  a:\n  - 1\n  - 2\nx: 1\n", "kv_cache:\n  a:\n  - 1\n  - 2\n  enable_prefetch: true\n  prefetch_size: 8\nx: 1\n")]
    [InlineData("c.yaml", "kv_cache:\n  a: |\n    text\n\n    more\nx: 1\n", "kv_cache:\n  a: |\n    text\n\n    more\n  enable_prefetch: true\n  prefetch_size: 8\nx: 1\n")]
    [InlineData("c.yaml", "kv_cache:\n  a: 'two\n  lines'\nx: 1\n", "kv_cache:\n  a: 'two\n  lines'\n  enable_prefetch: true\n  prefetch_size: 8\nx: 1\n")]
    [InlineData("c.yaml", "kv_cache: {a: [1, 2]}", "kv_cache: {a: [1, 2], enable_prefetch: true, prefetch_size: 8}")]
    [InlineData("c.yaml", "kv_cache:\n  a: [1,\n    2\n    ]\nx: 1\n", "kv_cache:\n  a: [1,\n    2\n    ]\n  enable_prefetch: true\n  prefetch_size: 8\nx: 1\n")]
    [InlineData("c.yaml", "kv_cache:\n  a:\n    ? b\n", "kv_cache:\n  a:\n    ? b\n  enable_prefetch: true\n  prefetch_size: 8\n")]
    [InlineData("c.json", "{\"kv_cache\":{}}", "{\"kv_cache\":{ \"enable_prefetch\": true, \"prefetch_size\": 8 }}")]
    [InlineData("c.json", "{\n\t\"kv_cache\": {\n\t\t\"a\": 1, // last\n\t}\n}", "{\n\t\"kv_cache\": {\n\t\t\"a\": 1, // last\n\t\t\"enable_prefetch\": true,\n\t\t\"prefetch_size\": 8,\n\t}\n}")]
    [InlineData("c.json", "{\n \"kv_cache\": {\n  \"a\": 1 // last\n }\n}", "{\n \"kv_cache\": {\n  \"a\": 1, // last\n  \"enable_prefetch\": true,\n  \"prefetch_size\": 8\n }\n}")]
    [InlineData("c.json", "{\"kv_cache_size\": 5, \"é\": \"😀\"}", "{\"kv_cache\": { \"max_tokens\": 5, \"cache_strategy\": \"adaptive\", \"enable_persistence\": true, \"persistence_path\": \"/data/cache\", \"use_compression\": true, \"compression_ratio\": 0.3, \"enable_prefetch\": true, \"prefetch_size\": 8 }, \"é\": \"😀\"}")]
    [InlineData("c.env", "KV_CACHE_MAX_TOKENS=1", "KV_CACHE_MAX_TOKENS=1\nKV_CACHE_ENABLE_PREFETCH=true\nKV_CACHE_PREFETCH_SIZE=8")]
    [InlineData("c.env", "KV_CACHE_SIZE=1\nKV_CACHE_MAX_TOKENS=2\nKV_CACHE_USE_COMPRESSION=false\n", "# KV_CACHE_SIZE=1\nKV_CACHE_MAX_TOKENS=2\nKV_CACHE_USE_COMPRESSION=false\nKV_CACHE_ENABLE_PERSISTENCE=true\nKV_CACHE_PERSISTENCE_PATH=/data/cache\nKV_CACHE_ENABLE_PREFETCH=true\nKV_CACHE_PREFETCH_SIZE=8\n")]
    [InlineData("c.yaml", "kv_cache_size: 7 # old\nkv_cache:\n  max_tokens: 9\n  enable_prefetch: false\n", "# old\nkv_cache:\n  max_tokens: 9\n  enable_prefetch: false\n  cache_strategy: adaptive\n  enable_persistence: true\n  persistence_path: /data/cache\n  use_compression: true\n  compression_ratio: 0.3\n")]
    public void What_people_write_is_edited_where_it_stands(string path, string before, string after)
    {
        string once = Migrated(path, before);
        Assert.Equal(after, once);
        Assert.Equal(after, Migrated(path, once));
    }

    [Theory]
    [InlineData("c.json", "{\"kv_cache\":{\"a\":1},\n\"kv_cache\":{}}", "c.json:2: kv_cache")]
    [InlineData("c.json", "{\n\"kv_cache\": 5}", "c.json:2: kv_cache")]
    [InlineData("c.json", "{\n\n\"kv_cache_size\": NaN}", "c.json:3")]
    [InlineData("c.json", "[]", "c.json:1")]
    [InlineData("c.json", "", "c.json:1")]
    [InlineData("c.json", "{\"a\": \"\\ud800\"}", "c.json")]
    [InlineData("c.json", "{\n\"kv_cache_size\": -4}", "c.json:2: kv_cache_size")]
    [InlineData("c.json", "{\n\"kv_cache_size\": 4.5}", "c.json:2: kv_cache_size")]
    [InlineData("c.json", "{\n\"kv_cache_strategy\": \"fifo\"}", "c.json:2: kv_cache_strategy")]
    [InlineData("c.yaml", "a: 1\na: 2\n", "c.yaml:2")]
    [InlineData("c.yaml", "a: &x 1\nb: *x\n", "c.yaml:1")]
    [InlineData("c.yaml", "a: 1\nb: !!int 3\n", "c.yaml:2")]
    [InlineData("c.yaml", "x: {<<: {a: 1}}\n", "c.yaml:1")]
    [InlineData("c.yaml", "a: [1\nb: 2\n", "c.yaml:")]
    [InlineData("c.yaml", "a: 1\n---\nb: 1\n", "c.yaml:")]
    [InlineData("c.yaml", "kv_cache: 5\n", "c.yaml:1: kv_cache")]
    [InlineData("c.yaml", "{kv_cache: {a: 1}}\n", "c.yaml:1")]
    [InlineData("c.yaml", "~\n", "c.yaml:1")]
    [InlineData("c.yaml", "a: 1\nA: 2\n", "c.yaml:2: A")]
    [InlineData("c.yaml", "kv_cache:\n  a: 1\u0085  b: 2", "c.yaml: ")]
    [InlineData("c.yaml", "kv_cache:\n  a: 1\r  b: 2", "c.yaml: ")]
    [InlineData("c.yaml", "# \u2028\nkv_cache_size: 7\n", "c.yaml: ")]
    [InlineData("c.yaml", "- a\n", "c.yaml:1")]
    [InlineData("c.env", "A=1\nKV_CACHE_SIZE\n", "c.env:2: KV_CACHE_SIZE")]
    [InlineData("c.env", "KV_CACHE_SIZE=7\nKV_CACHE_PERSISTENCE_PATH=\"x\n", "c.env:2: KV_CACHE_PERSISTENCE_PATH")]
    [InlineData("c.env", "KV_CACHE_SIZE=many\n", "c.env:1: kv_cache_size")]
    [InlineData("c.env", "KV_CACHE_SIZE=\n", "c.env:1: kv_cache_size")]
    public void What_is_malformed_is_named_by_file_line_and_key(string path, string text, string where)
    {
        KvConfigurationException error = Assert.Throws<KvConfigurationException>(() => Migrated(path, text));
        Assert.StartsWith("E003: " + where, error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', error.Message);
    }

    [Theory]
    [InlineData("c.yaml", "kv_cache:\n  version: 2.2\n  max_tokens: 4\n")]
    [InlineData("c.yaml", "schema_version: 3\nkv_cache_size: 4\n")]
    [InlineData("c.json", "{\"version\": \"99.0\", \"kv_cache\": {}}")]
    [InlineData("c.env", "KV_CACHE_SCHEMA_VERSION=2.2\nKV_CACHE_SIZE=4\n")]
    public void A_newer_schema_is_refused(string path, string text) => Assert.Throws<KvNewerVersionException>(() => Migrated(path, text));

    [Theory]
    [InlineData("c.yaml", "preset: production\n")]
    [InlineData("c.yaml", "")]
    [InlineData("c.yaml", "kv_cache:\n")]
    [InlineData("c.json", "{\"kv_cach\": {}}")]
    [InlineData("c.env", "DATABASE_URL=x\nKV_CACHE_ENABLED=true\n")]
    public void What_says_nothing_of_old_versions_stays(string path, string text) => Assert.Equal(text, Migrated(path, text));

    [Fact]
    public void Bytes_that_are_no_UTF8_are_refused_with_their_line()
    {
        KvConfigurationException error = Assert.Throws<KvConfigurationException>(() => IConfigText.Parse("c.json", [(byte)'{', 10, 10, 0xff, (byte)'}']));
        Assert.StartsWith("E003: c.json:3: expected UTF-8", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_deep_file_is_refused()
    {
        string deep = string.Concat(Enumerable.Repeat("{\"a\":", 5000)) + "1" + new string('}', 5000);
        Assert.Throws<KvConfigurationException>(() => Migrated("c.json", deep));
        Assert.Throws<KvConfigurationException>(() => Migrated("c.yaml", "a: " + deep.Replace("\"", "", StringComparison.Ordinal)));
    }

    private static string Migrated(string path, string text)
    {
        IConfigText parsed = path == "c.env" ? EnvText.Parse(path, text) : IConfigText.Parse(path, System.Text.Encoding.UTF8.GetBytes(text));
        IConfigText migrated = ConfigMigration.Migrate(path, parsed, new StepChoice(null, Lossless: false, _ => { }));
        Assert.True(migrated.Text == text || ConfigMigration.VersionOf(path, migrated, null) == KvConfigVersion.V21);
        Assert.True(migrated.Text == text || migrated.Find(New) is not null);
        return migrated.Text;
    }
}
