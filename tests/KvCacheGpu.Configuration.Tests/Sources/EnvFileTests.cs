namespace KvCacheGpu.Configuration.Tests;

/// <summary>Reading and migrating a .env file cut it alike: what stands in another program's value is neither read nor changed.</summary>
public sealed class EnvFileTests : IDisposable
{
    private readonly DiskProject _project = new();

    // Lines of other programs, as the tools that read .env files take them: each holds something that one or the other of them trips over.
    private static readonly string[] _foreign =
    [
        "TEXT=\"first\nKV_CACHE_SIZE=1\nlast\"",
        "TEXT='first\nexport KV_CACHE_SIZE=1\nlast' # remark",
        "TEXT=`first\nKV_CACHE_SIZE=\"1\"\nlast`",
        "RSA=\"-----BEGIN RSA PRIVATE KEY-----\nMIIEow+/x==\nKV_CACHE_SIZE=1\n-----END RSA PRIVATE KEY-----\n\"",
        "QUOTED=\"a \\\"word\nKV_CACHE_SIZE=1\\\"\nend\"",
        "QUOTED='it\\'s\nKV_CACHE_SIZE=1'",
        "DOC: \"first\n  KV_CACHE_SIZE=1\"",
        "my.key=1",
        "my-key: value",
        "BARE",
        "export BARE",
        "export\tTAB=\"x\"",
        "  export   WIDE =  x  # KV_CACHE_SIZE=1",
        "NAME=don't",
        "NAME=5\" disk",
        "URL=postgres://user:secret@host/db?a=b#c",
        "EMPTY=",
        "EMPTY=\"\"",
        "HASH=\"#\" # \"#\"",
        "#KV_CACHE_SIZE=1",
        "   # KV_CACHE_SIZE=1",
        "JSON={\"KV_CACHE_SIZE\": 1}",
        "JSON='{\n  \"KV_CACHE_SIZE\": 1\n}'",
        "if [ -f x ]; then",
        "set -a",
        "PATH+=:/x",
        "=x",
        "\u00E9t\u00E9=1",
        "OTHER_KV_CACHE_SIZE=1",
        "\t",
    ];

    public static TheoryData<string, string> Files()
    {
        TheoryData<string, string> files = [];
        for (int i = 0; i < _foreign.Length; i++)
        {
            string next = _foreign[(i + 7) % _foreign.Length], end = i % 3 == 0 ? "\r\n" : "\n";
            files.Add(string.Join(end, _foreign[i], "KV_CACHE_SIZE=640", next) + end, string.Join(end, _foreign[i], next) + end);
            files.Add(string.Join(end, "\uFEFFexport\tKV_CACHE_SIZE = '640' # tokens", _foreign[i], next), string.Join(end, _foreign[i], next));
        }

        return files;
    }

    public void Dispose() => _project.Dispose();

    [Theory]
    [MemberData(nameof(Files))]
    public void It_reads_alike_before_and_after_its_migration_which_leaves_other_lines(string text, string foreign)
    {
        _project.Write(".env", text);
        Assert.Equal(640, Load().Config.MaxTokens);

        KvConfigMigration migration = _project.Manager().MigrateToNewFormat();
        Assert.Single(migration.Files);
        Assert.Equal(640, Load().Config.MaxTokens);
        Assert.Equal(KvConfigVersion.V21, _project.Manager().DetectVersions()[1].Version);
        string[] pieces = [.. EnvDocument.Parse(new SourceText(".env", _project.Read(".env"))).Where(piece => !piece.IsOurs).Select(piece => piece.Text.TrimStart('\uFEFF'))];
        Assert.Equal(foreign.TrimEnd('\r', '\n'), string.Concat(pieces).TrimEnd('\r', '\n'));
    }

    [Theory]
    [InlineData("A=/a\nKV_CACHE_PERSISTENCE_PATH=${A}/b", "/a/b")]
    [InlineData("A=\"/a\" # c\nKV_CACHE_PERSISTENCE_PATH=\"${A}/b ${A}\"", "/a/b /a")]
    [InlineData("A=/a\nKV_CACHE_PERSISTENCE_PATH='${A}/b'", "${A}/b")]
    [InlineData("A=/a\nKV_CACHE_PERSISTENCE_PATH=\"\\${A}/b\"", "${A}/b")]
    [InlineData("A=/a\nA=/c\nB=${A}/b\nA=/d\nKV_CACHE_PERSISTENCE_PATH=${B}", "/c/b")]
    [InlineData("KV_CACHE_PERSISTENCE_PATH=${NONE:-/d}/b", "/d/b")]
    [InlineData("A=\nKV_CACHE_PERSISTENCE_PATH=${A:-/d}/b", "/d/b")]
    [InlineData("HOST=/file\nKV_CACHE_PERSISTENCE_PATH=${HOST}/b", "/environment/b")]
    [InlineData("B='${A}'\nA=/a\nKV_CACHE_PERSISTENCE_PATH=/x${B}", "/x${A}")]
    [InlineData("A=\"l\\nm\"\nB=\"k\nl\"\nKV_CACHE_PERSISTENCE_PATH=/${A}${B}", "/l\nmk\nl")]
    [InlineData("KV_CACHE_PERSISTENCE_PATH=/$A/${}/${:x}/$", "/$A/${}/${:x}/$")]
    public void Values_name_variables_above_them_and_of_the_environment(string text, string expected)
    {
        _project.Write(".env", text);
        Assert.Equal(expected, Load(("HOST", "/environment")).Config.Persistence.PersistencePath);
    }

    [Theory]
    [InlineData("KV_CACHE_PERSISTENCE_PATH=${A}/b\nA=/a", "1: KV_CACHE_PERSISTENCE_PATH: expected the variable A, which the value names, set above it or in the environment, got neither")]
    [InlineData("\nKV_CACHE_MAX_TOKENS: 5", "2: KV_CACHE_MAX_TOKENS: expected NAME=value, got \"KV_CACHE_MAX_TOKENS: 5\"")]
    [InlineData("KV_CACHE_PERSISTENCE_PATH=\"a\nb\"", "1: KV_CACHE_PERSISTENCE_PATH: expected a closing quote, got the line's end")]
    [InlineData("A=1\nB=\0\n", "2: expected text, got a NUL")]
    public void What_is_malformed_is_refused_by_reading_and_by_migrating_alike(string text, string expected)
    {
        _project.Write(".env", text);
        Assert.Equal($"E003: {_project.PathOf(".env")}:{expected}", Assert.Throws<KvConfigurationException>(() => Load()).Message);
        _project.Write(".env", "KV_CACHE_SIZE=64\n" + text);
        Assert.Throws<KvConfigurationException>(() => Load());
        if (!expected.Contains("names", StringComparison.Ordinal))
        {
            // An edit does not look names up: it must not depend on where it runs.
            Assert.Throws<KvConfigurationException>(() => _project.Manager().MigrateToNewFormat());
        }
    }

    [Fact]
    public void A_few_lines_that_name_one_another_twice_do_not_grow_without_bound()
    {
        string bomb = "V0=0123456789\n" + string.Concat(Enumerable.Range(1, 30).Select(i => $"V{i}=${{V{i - 1}}}${{V{i - 1}}}\n"));
        string deep = "V0=1\n" + string.Concat(Enumerable.Range(1, 5000).Select(i => $"V{i}=${{V{i - 1}}}\n"));
        foreach ((string text, string last) in new[] { (bomb, "V30"), (deep, "V5000"), (bomb.Replace("0123456789", "", StringComparison.Ordinal), "V30") })
        {
            _project.Write(".env", $"{text}KV_CACHE_PERSISTENCE_PATH=${{{last}}}\n");
            long before = GC.GetAllocatedBytesForCurrentThread();
            Assert.Throws<KvConfigurationException>(() => Load());
            Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 400L << 20);
        }
    }

    [Fact]
    public void Lines_that_name_the_old_size_are_warned_of_since_it_is_gone_then()
    {
        _project.Write(".env", "A=${KV_CACHE_SIZE}\nKV_CACHE_SIZE=64\nB=\"x $KV_CACHE_SIZE\"\nC='${KV_CACHE_SIZE}'\nD=$KV_CACHE_SIZE_2\nE=x # $KV_CACHE_SIZE\nF=${KV_CACHE_SIZE:-3}\n");
        string[] named = [.. _project.Manager().MigrateToNewFormat().Warnings.Where(warning => warning.Contains(" names KV_CACHE_SIZE", StringComparison.Ordinal))];
        Assert.Equal(
            new[] { (1, "A"), (3, "B"), (7, "F") }.Select(one => $".env:{one.Item1}: {one.Item2} names KV_CACHE_SIZE, which is KV_CACHE_MAX_TOKENS from now on: write that there"),
            named);
    }

    [Fact]
    public void An_old_size_that_names_a_variable_keeps_naming_it()
    {
        _project.Write(".env", "N=640\nKV_CACHE_SIZE=${N}\n");
        Assert.Equal(640, Load().Config.MaxTokens);
        _project.Manager().MigrateToNewFormat();
        Assert.StartsWith("N=640\nKV_CACHE_MAX_TOKENS=${N}\n", _project.Read(".env"), StringComparison.Ordinal);
        Assert.Equal(640, Load().Config.MaxTokens);
    }

    [Fact]
    public void The_environment_may_hold_what_no_file_may()
    {
        var versions = _project.Manager(environment: [("KV_CACHE_PERSISTENCE_PATH", "\"a\nb$'"), ("KV_CACHE_SIZE", "5"), ("KV_CACHE_\u00E9 x", "\"")]).DetectVersions();
        Assert.Equal(KvConfigVersion.V1, versions[2].Version);
    }

    private KvConfiguration Load(params (string Name, string Value)[] environment) => KvConfiguration.Load(
        new KvConfigurationSources { EnvFile = _project.PathOf(".env"), Environment = environment.ToDictionary(one => one.Name, one => one.Value) });
}
