using System.Data.Common;
using Npgsql;

namespace KvCacheGpu.Catalog.Tests;

/// <summary>Accepted and refused addresses; no part of a password leaves this process.</summary>
public sealed class AddressTests
{
    [Theory]
    [InlineData("")]
    [InlineData("  \t ")]
    [InlineData("\n")]
    [InlineData("mysql://h/db")]
    [InlineData("Host=h;Password=hush-hush;Database=db")]
    [InlineData("postgres:h/db")]
    [InlineData("postgres+://h/db")]
    [InlineData("postgres://h")]
    [InlineData("postgres://h/")]
    [InlineData("sqlite:")]
    [InlineData("sqlite:  ")]
    [InlineData("sqlite://")]
    [InlineData("sqlite:///")]
    [InlineData("sqlite://host/x.db")]
    [InlineData("sqlite::memory:")]
    [InlineData("sqlite:///:memory:")]
    [InlineData("sqlite:x.db?mode=memory")]
    [InlineData("sqlite:x.db?cache=shared")]
    [InlineData("sqlite:x.db?mode=ro&cache=shared")]
    [InlineData("postgres://h/db?port=0")]
    [InlineData("postgres://h/db?sslmode=9")]
    [InlineData("postgres://h/db?target_session_attrs=any")]
    public void What_cannot_be_read_is_E003_in_one_line(string address)
    {
        CatalogException refused = Assert.Throws<CatalogException>(() => new CatalogSchema(address, TestDatabase.Provider));
        Assert.Equal("E003", refused.Code);
        Assert.DoesNotContain('\n', refused.Message);
        Assert.DoesNotContain("hush", refused.Message, StringComparison.Ordinal);
        Assert.Equal(refused.Message, Assert.Throws<CatalogException>(() => new CacheCatalog(address, TestDatabase.Provider)).Message);
    }

    /// <summary>A program that brings one driver alone is told which addresses it can read.</summary>
    [Theory]
    [InlineData("sqlite:x.db", "postgres://me:hush@h/db", "expected sqlite:PATH, got another kind of address")]
    [InlineData("postgres://h/db", "sqlite:hush.db", "expected postgres://USER:PASSWORD@HOST:PORT/NAME, got another kind of address")]
    public void A_provider_reads_its_own_addresses_alone(string own, string other, string says)
    {
        CatalogProvider provider = own.StartsWith("sqlite", StringComparison.Ordinal) ? SqliteCatalog.Provider : PostgreSqlCatalog.Provider;
        Assert.StartsWith(own.Split(':')[0], new CatalogSchema(own, provider).Address, StringComparison.Ordinal);
        CatalogException refused = Assert.Throws<CatalogException>(() => new CacheCatalog(other, provider));
        Assert.Equal(("E003", $"E003: database: {says}"), (refused.Code, refused.Message));
        Assert.Throws<ArgumentNullException>("provider", () => new CatalogSchema(own, null!));
        Assert.Throws<ArgumentOutOfRangeException>("providers", () => CatalogProvider.Join());
    }

    // Every character that an address gives a meaning, at every place of a password.
    [Fact]
    public void A_password_that_is_not_encoded_is_neither_printed_nor_a_host()
    {
        int refused = 0;
        foreach (char c in "@/?#:%[]&=+ ")
        {
            foreach (string password in new[] { $"{c}hush", $"9{c}hush", $"p{c}hush", $"hush{c}", $"9{c}hush{c}hush", $"p@x{c}hush", $"9/{c}hush", $"9{c}hush=1" })
            {
                string address = $"postgres://me:{password}@127.0.0.1:5432/db";
                try
                {
                    Assert.Equal("postgres://127.0.0.1:5432/db", TestDatabase.Provider.Open(address, null).Address);
                }
                catch (CatalogException e)
                {
                    refused++;
                    Assert.Equal("E003", e.Code);
                    Assert.DoesNotContain("hush", e.ToString(), StringComparison.OrdinalIgnoreCase);
                    Assert.Contains("%40 for @", e.Message, StringComparison.Ordinal);
                }
            }
        }

        Assert.InRange(refused, 30, 70);
    }

    [Theory]
    [InlineData("postgresql+psycopg2://me:se%40cret%2F%3F@db.example:6432/my%20cache?sslmode=require")]
    [InlineData("postgresql+asyncpg://me:se%40cret%2F%3F@db.example:6432/my%20cache?ssl=require")]
    [InlineData("postgresql+psycopg://me:se%40cret%2F%3F@/my%20cache?host=db.example&port=6432&sslmode=require")]
    [InlineData("postgres://me:se%40cret%2F%3F@db.example:6432/my%20cache?sslmode=require&application_name=kvcache&connect_timeout=9")]
    public void An_address_of_SQLAlchemy_is_read(string address)
    {
        CatalogDatabase open = TestDatabase.Provider.Open(address, null);
        Assert.Equal("postgres://db.example:6432/my cache", open.Address);
        NpgsqlConnectionStringBuilder read = new(Assert.IsType<PostgreSqlDatabase>(open).ConnectionString);
        Assert.Equal(("me", "se@cret/?", SslMode.Require), (read.Username, read.Password, read.SslMode));
    }

    [Theory]
    [InlineData("sqlite:{0}/x y.db")]
    [InlineData("sqlite:///{0}/x y.db")]
    [InlineData("sqlite+pysqlite:///{0}/x y.db?mode=rwc")]
    [InlineData("sqlite+aiosqlite:///{0}/x y.db")]
    public async Task A_file_is_found_by_every_form(string form)
    {
        string folder = Directory.CreateTempSubdirectory("kvcache-address-").FullName;
        CatalogSchema schema = new(form.Replace("{0}", folder, StringComparison.Ordinal), TestDatabase.Provider);
        Assert.Equal($"sqlite:{folder}/x y.db", schema.Address);
        await schema.MigrateAsync();
        Assert.True(File.Exists(Path.Combine(folder, "x y.db")));
        Forget(schema.Address);
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public void Three_slashes_begin_a_relative_path_as_SQLAlchemy_has_it() =>
        Assert.Equal("sqlite:" + Path.GetFullPath("of/mine.db"), new CatalogSchema("sqlite:///of/mine.db", TestDatabase.Provider).Address);

    [Fact]
    public async Task A_file_opened_to_read_is_never_written_and_looking_makes_none()
    {
        string folder = Directory.CreateTempSubdirectory("kvcache-address-").FullName;
        string path = Path.Combine(folder, "catalog.db");
        Assert.Equal(0, (await new CatalogSchema("sqlite:" + path, TestDatabase.Provider).StatusAsync()).Version);
        Assert.Equal(3, (await new CatalogSchema("sqlite:" + path, TestDatabase.Provider).PlanAsync()).Count);
        Assert.Equal("E008", (await Assert.ThrowsAsync<CatalogException>(() => new CatalogSchema($"sqlite:{path}?mode=ro", TestDatabase.Provider).MigrateAsync())).Code);
        Assert.Equal("E008", (await Assert.ThrowsAsync<CatalogException>(() => new CatalogSchema($"sqlite:{path}?mode=rw", TestDatabase.Provider).MigrateAsync())).Code);
        Assert.Empty(Directory.EnumerateFileSystemEntries(folder));

        await new CatalogSchema("sqlite:" + path, TestDatabase.Provider).MigrateAsync();
        Forget("sqlite:" + path);
        byte[] before = await File.ReadAllBytesAsync(path);
        CacheCatalog reading = new($"sqlite:{path}?mode=ro", TestDatabase.Provider);
        Assert.Equal(3, (await reading.Schema.StatusAsync()).Version);
        Assert.Empty((await reading.ListAsync()).Entries);
        CatalogException refused = (await reading.TryRecordAsync(new CatalogEntry { Key = "k" }))!;
        Assert.Contains("readonly database", refused.Message, StringComparison.Ordinal);
        Assert.Contains("to do what it was asked", refused.Message, StringComparison.Ordinal);
        Forget($"sqlite:{path}?mode=ro");
        Assert.Equal(before, await File.ReadAllBytesAsync(path));
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public async Task A_folder_and_a_pipe_are_no_databases()
    {
        string folder = Directory.CreateTempSubdirectory("kvcache-address-").FullName;
        string pipe = Path.Combine(folder, "pipe");
        using (System.Diagnostics.Process mkfifo = System.Diagnostics.Process.Start("mkfifo", pipe))
        {
            await mkfifo.WaitForExitAsync();
        }

        foreach ((string path, string says) in new[] { (folder, "a folder"), (pipe, "a named pipe"), ("/dev/null", "a device") })
        {
            CatalogException refused = await Assert.ThrowsAsync<CatalogException>(() => new CatalogSchema("sqlite:" + path, TestDatabase.Provider).StatusAsync());
            Assert.Equal(("E003", $"'{path}', {says}"), (refused.Code, refused.Actual));
            Assert.Equal("E003", (await Assert.ThrowsAsync<CatalogException>(() => new CatalogSchema("sqlite:" + path, TestDatabase.Provider).MigrateAsync())).Code);
        }

        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public void An_address_of_megabytes_is_not_repeated()
    {
        foreach (string address in new[] { "sqlite:" + new string('x', 5 << 20), "postgres://h/" + new string('x', 5 << 20) })
        {
            Assert.InRange(Assert.Throws<CatalogException>(() => new CatalogSchema(address, TestDatabase.Provider)).Message.Length, 1, 200);
        }
    }

    [Theory, OnSqlite, OnPostgres]
    public async Task An_error_of_a_statement_says_which_and_what(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        CacheCatalog catalog = await database.CatalogAsync(new CatalogOptions { Retries = 0 });
        await database.RunAsync("ALTER TABLE cache_entries ADD COLUMN mine INTEGER CHECK (mine IS NOT NULL)");
        CatalogException error = (await catalog.TryRecordAsync(new CatalogEntry { Key = "k", Name = "hush-hush" }))!;
        Assert.Equal("E008", error.Code);
        Assert.Contains(kind == "sqlite" ? "CHECK constraint failed: mine IS NOT NULL" : "SQLSTATE 23514: ", error.Message, StringComparison.Ordinal);
        Assert.Contains(kind == "sqlite" ? "(275)" : "constraint cache_entries_mine_check", error.Message, StringComparison.Ordinal);
        Assert.Contains(", in: INSERT INTO cache_entries (key, ", error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("answer", error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("hush", error.Message, StringComparison.Ordinal);
    }

    [Theory, OnSqlite, OnPostgres]
    public async Task A_migrator_that_waits_in_vain_is_told_for_what(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        CatalogDatabase other = database.Open();
        await using DbConnection connection = await other.OpenAsync(CancellationToken.None);
        await using (await other.BeginLockedAsync(connection, CancellationToken.None))
        {
            CatalogSchema schema = new(database.Open(new CatalogOptions { Retries = 0, Timeout = TimeSpan.FromSeconds(1) }));
            CatalogException error = await Assert.ThrowsAsync<CatalogException>(() => schema.MigrateAsync());
            Assert.Equal("E008", error.Code);
            Assert.Contains("a lock that another connection holds (a migration that runs, or a transaction left open)", error.Message, StringComparison.Ordinal);
            Assert.Contains(kind == "sqlite" ? "SQLite Error 5" : "SQLSTATE 55P03", error.Message, StringComparison.Ordinal);
        }
    }

    private static void Forget(string address) => TestDatabase.Provider.Open(address, null).ForgetConnections();
}
