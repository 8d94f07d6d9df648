using CsCheck;

namespace KvCacheGpu.Catalog.Tests;

/// <summary>Random operations, against a dictionary in memory that does the same.</summary>
public sealed class ModelTests
{
    private static readonly Gen<string> Keys = OneOf("a", "A", "b", "é", "e\u0301", "'", "%", "\U0001F600");
    private static readonly Gen<string?> Ids = OneOf<string?>(null, "x", "X", "'--");
    private static readonly Gen<string?> Metadatas = OneOf<string?>(null, "{}", """{"m":1}""", """{"m":"1"}""", """{"m":1,"n":[1,2]}""", """{"n":[2]}""");
    private static readonly Gen<DateTimeOffset> Times = Gen.Long[0, 1L << 50].Select(us => DateTimeOffset.UnixEpoch.AddTicks(us * TimeSpan.TicksPerMicrosecond));

    private static readonly Gen<CatalogEntry> Entries = Gen.Select(Keys, Ids, Ids, Metadatas, Times, Gen.Long[0, long.MaxValue]).Select(
        (key, session, tenant, metadata, time, bytes) => new CatalogEntry
        {
            Key = key,
            Session = session,
            Tenant = tenant,
            Metadata = metadata,
            Created = time,
            Accessed = time,
            Bytes = bytes,
            Path = (bytes % 3) switch { 0 => "p", 1 => "rebuilt", _ => null },
        });

    private static readonly Gen<Operation> Operations = Gen.Select(Gen.Int[0, 6], Entries, Entries, Gen.Int[1, 4]).Select((o, e, f, n) => new Operation(o, e, f, n));

    [Theory, OnSqlite, OnPostgres]
    public async Task Both_databases_do_what_a_dictionary_does(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        CacheCatalog catalog = await database.CatalogAsync();
        await Operations.List[10, 40].SampleAsync(
            async operations =>
            {
                await database.RunAsync("DELETE FROM cache_entries");
                SortedDictionary<string, CatalogEntry> model = new(Comparer<string>.Create((a, b) => System.Text.Encoding.UTF8.GetBytes(a).AsSpan().SequenceCompareTo(System.Text.Encoding.UTF8.GetBytes(b))));
                foreach (Operation operation in operations)
                {
                    await StepAsync(catalog, model, operation);
                }

                Assert.Equal(model.Values, (await catalog.ListAsync(null, null, CacheCatalog.MaxPage)).Entries);
                return true;
            },
            seed: "0000KvCacheG",
            iter: 40,
            threads: 1);
    }

    private static async Task StepAsync(CacheCatalog catalog, SortedDictionary<string, CatalogEntry> model, Operation operation)
    {
        (CatalogEntry entry, CatalogEntry other) = (operation.Entry, operation.Other);
        switch (operation.Kind)
        {
            case 0 or 1:
                await catalog.RecordAsync(entry);
                model[entry.Key] = entry;
                break;
            case 2:
                Assert.Equal(model.Remove(entry.Key), await catalog.DeleteAsync(entry.Key));
                break;
            case 3:
                Assert.Equal(model.GetValueOrDefault(entry.Key), await catalog.FindAsync(entry.Key));
                break;
            case 4:
                Assert.Equal(model.ContainsKey(entry.Key), await catalog.TouchAsync(entry.Key, other.Created));
                if (model.TryGetValue(entry.Key, out CatalogEntry? touched))
                {
                    model[entry.Key] = touched with { Accessed = other.Created };
                }

                break;
            case 5:
                CatalogFilter filter = new() { Session = entry.Session, Tenant = other.Tenant, Metadata = entry.Metadata };
                CatalogEntry[] expected =
                [
                    .. model.Values.Where(e => (filter.Session is null || e.Session == filter.Session) && (filter.Tenant is null || e.Tenant == filter.Tenant)
                        && (filter.Metadata is null || Holds(e.Metadata, filter.Metadata))),
                ];
                CatalogPage page = await catalog.ListAsync(filter, null, operation.Limit);
                Assert.Equal(expected.Take(operation.Limit), page.Entries);
                Assert.Equal(expected.Length > operation.Limit, page.Next is not null);
                break;
            default:
                CatalogEntry[] stored = [.. new[] { entry, other }.DistinctBy(e => e.Key).Select(e => e with { Path = "rebuilt" })];
                await catalog.RebuildAsync("rebuilt", CatalogTests.Stream(stored));
                Rebuild(model, stored);
                break;
        }
    }

    private static void Rebuild(SortedDictionary<string, CatalogEntry> model, CatalogEntry[] stored)
    {
        foreach (string gone in model.Values.Where(e => e.Path == "rebuilt" && stored.All(s => s.Key != e.Key)).Select(e => e.Key).ToArray())
        {
            model.Remove(gone);
        }

        foreach (CatalogEntry entry in stored)
        {
            CatalogEntry? old = model.GetValueOrDefault(entry.Key);
            model[entry.Key] = entry with { Session = entry.Session ?? old?.Session, Metadata = entry.Metadata ?? old?.Metadata, Accessed = old?.Accessed ?? entry.Accessed };
        }
    }

    // The expected result is written out case by case, without the code under test.
    private static bool Holds(string? metadata, string filter) => filter switch
    {
        "{}" => metadata is not null,
        """{"m":1}""" => metadata is """{"m":1}""" or """{"m":1,"n":[1,2]}""",
        """{"m":"1"}""" => metadata is """{"m":"1"}""",
        """{"m":1,"n":[1,2]}""" => metadata == filter,
        _ => metadata is """{"n":[2]}""" or """{"m":1,"n":[1,2]}""",
    };

    private static Gen<T> OneOf<T>(params T[] values) => Gen.Int[0, values.Length - 1].Select(i => values[i]);

    private sealed record Operation(int Kind, CatalogEntry Entry, CatalogEntry Other, int Limit);
}
