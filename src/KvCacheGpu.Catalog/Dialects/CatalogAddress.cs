using Npgsql;

namespace KvCacheGpu.Catalog;

/// <summary>Reads a database's address: <c>sqlite:PATH</c> or <c>postgres://user:password@host:port/name?sslmode=...&amp;host=/socket/folder</c>.</summary>
internal static class CatalogAddress
{
    private const string Expected = "sqlite:PATH or postgres://USER:PASSWORD@HOST:PORT/NAME";

    /// <summary>The dialect of an address. No message repeats the address: it may hold a password.</summary>
    public static Dialect Parse(string address, CatalogOptions options)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(address);
        if (address.StartsWith("sqlite:", StringComparison.Ordinal))
        {
            string path = address["sqlite:".Length..];
            return path.Length > 0 && !path.Contains('\0', StringComparison.Ordinal) && path != ":memory:"
                ? new SqliteDialect(path, options)
                : throw CatalogException.Invalid("database", "sqlite:PATH, a file", path.Length == 0 ? "no path" : "no file");
        }

        return address.StartsWith("postgres://", StringComparison.Ordinal) || address.StartsWith("postgresql://", StringComparison.Ordinal)
            ? new PostgresDialect(Server(address, options), options)
            : throw CatalogException.Invalid("database", Expected, "another kind of address");
    }

    private static NpgsqlConnectionStringBuilder Server(string address, CatalogOptions options)
    {
        if (!Uri.TryCreate(address, UriKind.Absolute, out Uri? uri) || uri.AbsolutePath.Trim('/') is not { Length: > 0 } name)
        {
            throw CatalogException.Invalid("database", Expected, "an address that cannot be read");
        }

        NpgsqlConnectionStringBuilder builder = new()
        {
            Host = uri.Host.Length > 0 ? uri.Host : "localhost",
            Database = Uri.UnescapeDataString(name),
            // Times go through columns without a zone too, in old tables.
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
            string value = parts.Length == 2 ? Uri.UnescapeDataString(parts[1]) : string.Empty;
            switch (parts[0])
            {
                case "host":
                    builder.Host = value;
                    break;
                case "sslmode" when Enum.TryParse(value.Replace("-", string.Empty, StringComparison.Ordinal), ignoreCase: true, out SslMode mode):
                    builder.SslMode = mode;
                    break;
                default:
                    throw CatalogException.Invalid("database", "the parameters host and sslmode (disable, prefer, require, verify-ca, verify-full)", parts[0]);
            }
        }

        return builder;
    }
}
