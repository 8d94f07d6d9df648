namespace KvCacheGpu.Catalog.Tests;

/// <summary>Any text, in any field, on both databases alike: stored and found exactly, or refused by the same error.</summary>
public sealed class HostileTextTests
{
    private static readonly string[] Stored =
    [
        "'; DROP TABLE cache_entries; --", "' OR '1'='1", "\\'; SELECT pg_sleep(9); --", "$1 @key :key ?", "%", "_", "a%b", "\"", "\\", "\\x00", "\\u0000", "{\"a\":1}", "NULL", "null",
        " leading", "trailing ", "a", "A", "é", "e\u0301", "\u0430", "\uFB01", "fi", "ﬀ", "İ", "i\u0307", "ß", "SS", "\u200B", "\u202Eabc", "\uFEFF", "\uFFFD", "\uFFFF",
        "\U0001F469\u200D\U0001F4BB", "\U0010FFFF", "\r\n\t\u0001\u007F", new string('x', 255), new string('€', 255), string.Concat(Enumerable.Repeat("\U0001F600", 255)),
    ];

    private static readonly string[] Refused = ["\0", "a\0b", "\uD800", "a\uDC00", new string('x', 256), new string('k', 10_240), string.Concat(Enumerable.Repeat("\U0001F600", 256))];

    [Theory, OnSqlite, OnPostgres]
    public async Task Stored_texts_come_back_and_are_told_apart(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        CacheCatalog catalog = await database.CatalogAsync();
        foreach (string text in Stored)
        {
            await catalog.RecordAsync(Everywhere(text));
        }

        foreach (string text in Stored)
        {
            CatalogEntry expected = Everywhere(text);
            CatalogEntry found = (await catalog.FindAsync(text))!;
            Assert.Equal(expected with { Metadata = found.Metadata }, found);
            Assert.Equal(Json.Canonical(expected.Metadata!), found.Metadata);
            foreach (CatalogFilter filter in new[] { new CatalogFilter { Session = text }, new() { Tenant = text }, new() { Metadata = expected.Metadata }, new() { Session = text, Tenant = text, Metadata = expected.Metadata } })
            {
                Assert.Equal([text], (await catalog.ListAsync(filter)).Entries.Select(e => e.Key));
            }
        }

        Assert.Equal(Stored.Length, (await catalog.ListAsync()).Entries.Count);
        Assert.True(await catalog.DeleteAsync("a"));
        Assert.Equal(Stored.Length - 1, (await catalog.ListAsync()).Entries.Count);
    }

    [Theory, OnSqlite, OnPostgres]
    public async Task What_one_cannot_hold_both_refuse(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        CacheCatalog catalog = await database.CatalogAsync();
        CatalogEntry sound = new() { Key = "k" };
        foreach (string text in Refused)
        {
            string json = System.Text.Json.JsonSerializer.Serialize(new Dictionary<string, string> { ["t"] = text });
            List<Func<Task>> acts =
            [
                () => catalog.RecordAsync(sound with { Key = text }), () => catalog.RecordAsync(sound with { Session = text }), () => catalog.RecordAsync(sound with { Tenant = text }),
                () => catalog.RecordAsync(sound with { Checksum = text }), () => catalog.FindAsync(text), () => catalog.TouchAsync(text), () => catalog.DeleteAsync(text),
                () => catalog.ListAsync(new CatalogFilter { Session = text }), () => catalog.ListAsync(new CatalogFilter { Tenant = text }), () => catalog.ListAsync(null, text),
            ];
            if (text.Length < 10)
            {
                acts.AddRange([() => catalog.RecordAsync(sound with { Name = text }), () => catalog.RecordAsync(sound with { Path = text })]);
            }

            // A serializer writes a lone surrogate as U+FFFD; the raw escape is what a caller may send.
            if (text.Contains('\0', StringComparison.Ordinal))
            {
                acts.AddRange([() => catalog.RecordAsync(sound with { Metadata = json }), () => catalog.ListAsync(new CatalogFilter { Metadata = json })]);
            }

            foreach (Func<Task> act in acts)
            {
                Assert.Equal("E003", (await Assert.ThrowsAsync<CatalogException>(act)).Code);
            }
        }

        Assert.Equal("E003", (await Assert.ThrowsAsync<CatalogException>(() => catalog.RecordAsync(sound with { Key = string.Empty }))).Code);
        Assert.Empty((await catalog.ListAsync()).Entries);
    }

    [Theory]
    [InlineData("[]")]
    [InlineData("1")]
    [InlineData("")]
    [InlineData("{")]
    [InlineData("""{"a":1,"a":2}""")]
    [InlineData("""{"a":1e400}""")]
    [InlineData("""{"a":"\ud800"}""")]
    [InlineData("""{"\ud800":1}""")]
    [InlineData("""{"a\u0000":1}""")]
    public void Metadata_that_is_no_sound_object_is_refused(string json) =>
        Assert.Equal("E003", Assert.Throws<CatalogException>(() => Json.Canonical(json)).Code);

    [Fact]
    public void Metadata_nested_too_deep_or_too_long_is_refused()
    {
        Assert.Equal("E003", Assert.Throws<CatalogException>(() => Json.Canonical("{\"a\":" + new string('[', 100) + new string(']', 100) + "}")).Code);
        Assert.Equal("E003", Assert.Throws<CatalogException>(() => Json.Canonical("{\"a\":\"" + new string('x', 1 << 20) + "\"}")).Code);
    }

    [Theory, OnSqlite, OnPostgres]
    public async Task Containment_answers_alike(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        CacheCatalog catalog = await database.CatalogAsync();
        await catalog.RecordAsync(new CatalogEntry { Key = "k", Metadata = """{"a":{"b":[1,2.50,{"c":null,"d":[true]}]},"s":"x","z":0,"big":1e18,"huge":1e22,"tiny":5e-324,"m":-0.0}""" });
        foreach ((string filter, bool holds) in new[]
        {
            ("{}", true), ("""{"s":"x"}""", true), ("""{"s":"X"}""", false), ("""{"s":null}""", false), ("""{"a":{}}""", true), ("""{"a":[]}""", false), ("""{"a":{"b":[]}}""", true),
            ("""{"a":{"b":[2.5,1]}}""", true), ("""{"a":{"b":[1,1,1]}}""", true), ("""{"a":{"b":[3]}}""", false), ("""{"a":{"b":[{"d":[true]}]}}""", true), ("""{"a":{"b":[{"d":[1]}]}}""", false),
            ("""{"a":{"b":1}}""", false), ("""{"z":0.0}""", true), ("""{"z":false}""", false), ("""{"z":"0"}""", false), ("""{"big":1000000000000000000}""", true), ("""{"huge":1E22}""", true),
            ("""{"tiny":5e-324}""", true), ("""{"m":0}""", true), ("""{"missing":1}""", false), ("""{"s":"x","missing":null}""", false),
        })
        {
            Assert.Equal((filter, holds), (filter, (await catalog.ListAsync(new CatalogFilter { Metadata = filter })).Entries.Count == 1));
        }
    }

    private static CatalogEntry Everywhere(string text) => new()
    {
        Key = text, Session = text, Tenant = text, Name = text, Path = text, Checksum = text, Created = DateTimeOffset.UnixEpoch, Accessed = DateTimeOffset.UnixEpoch,
        Metadata = System.Text.Json.JsonSerializer.Serialize(new Dictionary<string, object> { ["t"] = text, [text + "."] = new[] { text } }),
    };
}
