using System.Globalization;
using System.Text.RegularExpressions;
using Microsoft.Data.Sqlite;
using Npgsql;

namespace KvCacheGpu.Catalog;

/// <summary>
/// Reads a database's address: <c>sqlite:PATH?mode=...</c> or <c>postgres://user:password@host:port/name?sslmode=...</c>, and SQLAlchemy's forms of
/// both: <c>sqlite:///PATH</c> (a fourth slash begins an absolute path), <c>postgresql+DRIVER://...</c>.
/// </summary>
internal static partial class CatalogAddress
{
    private const string Expected = "sqlite:PATH or postgres://USER:PASSWORD@HOST:PORT/NAME";
    private const string Encoded = Expected + ", with %40 for @, %2F for /, %3F for ? and %23 for # in a user or password";
    private const string Parameters = "the parameters host, port, sslmode (disable, prefer, require, verify-ca, verify-full), options, application_name and connect_timeout";
    private const int MostLength = 8192;

    /// <summary>Makes the dialect of an address. No message repeats the address, nor any part of it that may belong to a password.</summary>
    public static Dialect Parse(string address, CatalogOptions options)
    {
        ArgumentNullException.ThrowIfNull(address);
        if (string.IsNullOrWhiteSpace(address))
        {
            throw CatalogException.Invalid("database", Expected, "an empty text, as of a variable that is not set");
        }

        if (address.Length > MostLength)
        {
            throw CatalogException.Invalid("database", $"an address of at most {MostLength} characters", $"{address.Length}");
        }

        Match kind = Kind().Match(address);
        string rest = address[kind.Length..];
        return kind.Groups["kind"].Value switch
        {
            "sqlite" => File(rest, options),
            "postgres" or "postgresql" when rest.StartsWith("//", StringComparison.Ordinal) => new PostgresDialect(Server(rest[2..], options), options),
            _ => throw CatalogException.Invalid("database", Expected, "another kind of address"),
        };
    }

    private static SqliteDialect File(string rest, CatalogOptions options)
    {
        string[] parts = rest.Split('?', 2);
        SqliteOpenMode mode = parts.Length == 1 ? SqliteOpenMode.ReadWriteCreate : parts[1] switch
        {
            "mode=ro" => SqliteOpenMode.ReadOnly,
            "mode=rw" => SqliteOpenMode.ReadWrite,
            "mode=rwc" => SqliteOpenMode.ReadWriteCreate,
            _ => throw CatalogException.Invalid("database", "the one parameter mode (ro, rw, rwc) of sqlite", $"'{Short(parts[1])}'"),
        };

        // SQLAlchemy's form has an empty host before the path.
        string path = !parts[0].StartsWith("//", StringComparison.Ordinal) ? parts[0]
            : parts[0].StartsWith("///", StringComparison.Ordinal) ? parts[0][3..]
            : parts[0].Length == 2 ? string.Empty
            : throw CatalogException.Invalid("database", "sqlite:PATH, or sqlite:/// and a path", "a host");
        string? flaw = string.IsNullOrWhiteSpace(path) ? "no path" : path == ":memory:" || path.Contains('\0', StringComparison.Ordinal) ? "no file" : null;
        return flaw is null ? new SqliteDialect(path, mode, options) : throw CatalogException.Invalid("database", "sqlite:PATH, a file", flaw);
    }

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
                throw CatalogException.Invalid("database", Parameters, $"'{Short(name)}'");
        }
    }

    // The parameter's name, if it has the form of a name; any other text might belong to a password.
    private static string Short(string name) => Name().IsMatch(name) ? name : "another";

    [GeneratedRegex(@"^(?<kind>sqlite|postgres|postgresql)(\+[a-z0-9_]+(?=://))?:", RegexOptions.ExplicitCapture)]
    private static partial Regex Kind();

    [GeneratedRegex(@"^[a-z_]{1,32}(=[a-z]{0,16})?$")]
    private static partial Regex Name();
}
