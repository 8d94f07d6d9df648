using System.Text;

namespace KvCacheGpu.Catalog;

/// <summary>Checks that both databases can hold an entry exactly. Other entries are refused before either database sees them.</summary>
internal static class EntryCheck
{
    public const int MaxId = 255;
    public const int MaxText = 16_384;

    /// <summary>The entry as it will be read back: with canonical metadata, times in microseconds, and no null times.</summary>
    public static CatalogEntry Checked(CatalogEntry entry, DateTimeOffset now)
    {
        ArgumentNullException.ThrowIfNull(entry);
        Key(entry.Key);
        Text(entry.Session, nameof(entry.Session), MaxId);
        Text(entry.Tenant, nameof(entry.Tenant), MaxId);
        Text(entry.Name, nameof(entry.Name), MaxText);
        Text(entry.Path, nameof(entry.Path), MaxText);
        Text(entry.Checksum, nameof(entry.Checksum), MaxId);
        Count(entry.FormatVersion, nameof(entry.FormatVersion));
        Count(entry.Bytes, nameof(entry.Bytes));
        Count(entry.Layers, nameof(entry.Layers));
        Count(entry.Tokens, nameof(entry.Tokens));
        DateTimeOffset created = Time(entry.Created ?? now, nameof(entry.Created));
        return entry with
        {
            Metadata = entry.Metadata is null ? null : Json.Canonical(entry.Metadata),
            Created = created,
            Accessed = Time(entry.Accessed ?? created, nameof(entry.Accessed)),
        };
    }

    public static void Key(string key)
    {
        ArgumentNullException.ThrowIfNull(key);
        if (key.Length == 0)
        {
            throw CatalogException.Invalid(nameof(CatalogEntry.Key), "1 to 255 code points", "none");
        }

        Text(key, nameof(CatalogEntry.Key), MaxId);
    }

    /// <summary>Checks that a text is well-formed, short enough, and without U+0000, which PostgreSQL cannot hold.</summary>
    public static void Text(string? text, string what, int most)
    {
        int points = 0;
        for (ReadOnlySpan<char> rest = text; !rest.IsEmpty; points++)
        {
            if (Rune.DecodeFromUtf16(rest, out Rune rune, out int used) != System.Buffers.OperationStatus.Done)
            {
                throw CatalogException.Invalid(what, "well-formed Unicode", $"a lone surrogate U+{(int)rest[0]:X4}");
            }

            if (rune.Value == 0)
            {
                throw CatalogException.Invalid(what, "text without U+0000", $"one as code point {points}");
            }

            rest = rest[used..];
        }

        if (points > most)
        {
            throw CatalogException.Invalid(what, $"at most {most} code points", $"{points}");
        }
    }

    public static DateTimeOffset Time(DateTimeOffset time, string what)
    {
        DateTimeOffset utc = time.ToUniversalTime();
        return utc.Year is >= 1970 and <= 9998
            ? new DateTimeOffset(utc.Ticks - (utc.Ticks % TimeSpan.TicksPerMicrosecond), TimeSpan.Zero)
            : throw CatalogException.Invalid(what, "a time in the years 1970 to 9998", $"the year {utc.Year}");
    }

    private static void Count(long? count, string what)
    {
        if (count < 0)
        {
            throw CatalogException.Invalid(what, "0 or more", $"{count}");
        }
    }
}
