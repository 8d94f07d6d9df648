using System.Globalization;
using Npgsql;

namespace KvCacheGpu.Catalog;

/// <summary>
/// Catalogs in PostgreSQL, 11 or later, in UTF-8. Addresses: <c>postgres://user:password@host:port/name?sslmode=...</c>, <c>postgresql:</c> too, and
/// SQLAlchemy's <c>postgresql+DRIVER://...</c>.
/// </summary>
/// <remarks>Thread safety: it never changes.</remarks>
public sealed class PostgreSqlCatalog : CatalogProvider
{
    private const string Shape = "postgres://USER:PASSWORD@HOST:PORT/NAME";
    private const string Encoded = Shape + ", with %40 for @, %2F for /, %3F for ? and %23 for # in a user or password";
    private const string Parameters = "the parameters host, port, sslmode (disable, prefer, require, verify-ca, verify-full), options, application_name and connect_timeout";

    private PostgreSqlCatalog()
    {
    }

    /// <summary>The provider, for <c>new CacheCatalog("postgres://user:password@host/name", PostgreSqlCatalog.Provider)</c>.</summary>
    public static CatalogProvider Provider { get; } = new PostgreSqlCatalog();

    /// <inheritdoc/>
    protected override string Form => Shape;

    /// <inheritdoc/>
    protected override CatalogDatabase? Read(string kind, string rest, CatalogOptions options) =>
        kind is "postgres" or "postgresql" && rest.StartsWith("//", StringComparison.Ordinal) ? new PostgreSqlDatabase(Server(rest[2..], options), options) : null;

    private static NpgsqlConnectionStringBuilder Server(string rest, CatalogOptions options)
    {
        // If a password has an @, /, ? or # that is not encoded, its remainder looks like a host, whose name must be neither printed nor looked up.
        string[] ends = rest.Split(['/', '?', '#'], 2);
        if (ends[0].Length == 0 || ends[0][^1] == '@')
        {
            // The host is given by a parameter, or it is this machine.
            rest = $"{ends[0]}localhost{rest[ends[0].Length..]}";
        }

        if (ends[0].Count(c => c == '@') > 1 || (ends.Length == 2 && ends[1].Contains('@', StringComparison.Ordinal)) || rest.Contains('#', StringComparison.Ordinal)
            || !Uri.TryCreate("postgres://" + rest, UriKind.Absolute, out Uri? uri) || uri.AbsolutePath.Trim('/') is not { Length: > 0 } name)
        {
            throw CatalogException.Invalid("database", Encoded, "an address that cannot be read");
        }

        NpgsqlConnectionStringBuilder builder = new()
        {
            Host = uri.Host.Trim('[', ']'),
            Database = Uri.UnescapeDataString(name),
            // In old tables, columns of times may have no zone.
            Timezone = "UTC",
            Timeout = (int)Math.Ceiling(options.Timeout.TotalSeconds),
            ApplicationName = "kvcache",
        };
        if (uri.Port > 0)
        {
            builder.Port = uri.Port;
        }

        string[] user = uri.UserInfo.Split(':', 2);
        if (user[0].Length > 0)
        {
            builder.Username = Uri.UnescapeDataString(user[0]);
        }

        if (user.Length == 2)
        {
            builder.Password = Uri.UnescapeDataString(user[1]);
        }

        foreach (string pair in uri.Query.TrimStart('?').Split('&', StringSplitOptions.RemoveEmptyEntries))
        {
            string[] parts = pair.Split('=', 2);
            Set(builder, parts[0], parts.Length == 2 ? Uri.UnescapeDataString(parts[1]) : string.Empty);
        }

        return builder;
    }

    private static void Set(NpgsqlConnectionStringBuilder builder, string name, string value)
    {
        switch (name)
        {
            case "host" when value.Length > 0:
                builder.Host = value;
                break;
            case "port" when ushort.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out ushort port) && port > 0:
                builder.Port = port;
                break;
            // "ssl" is asyncpg's name for it in SQLAlchemy's addresses.
            case "sslmode" or "ssl" when Enum.TryParse(value.Replace("-", string.Empty, StringComparison.Ordinal), ignoreCase: true, out SslMode mode) && Enum.IsDefined(mode) && !char.IsDigit(value[0]):
                builder.SslMode = mode;
                break;
            case "options":
                builder.Options = value;
                break;
            case "application_name":
                builder.ApplicationName = value;
                break;
            case "connect_timeout" when int.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out int seconds) && seconds is > 0 and <= 1024:
                builder.Timeout = seconds;
                break;
            default:
                throw CatalogException.Invalid("database", Parameters, $"'{Shown(name)}'");
        }
    }
}
