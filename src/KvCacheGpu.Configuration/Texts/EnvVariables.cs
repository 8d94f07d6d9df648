namespace KvCacheGpu.Configuration;

/// <summary>A variable of a .env file.</summary>
internal readonly record struct EnvLine(string Name, string Value, int Line);

/// <summary>
/// Reads the variables of ours in a .env file: <c>[export ]KV_CACHE_X=value</c>, bare, in single quotes (as it is) or in double quotes
/// (\n \r \t \" \\ \$); " #" begins a comment. <c>${NAME}</c> and <c>${NAME:-default}</c> are expanded, but not in single quotes.
/// </summary>
internal static class EnvVariables
{
    public const string Prefix = "KV_CACHE_";

    /// <param name="source">The file.</param>
    /// <param name="environment">The environment, whose variables win over earlier ones of the file where a value names them.</param>
    /// <exception cref="KvConfigurationException">
    /// E003: a line of ours without "=", with an open quote, or a variable twice; a value that names a variable which is not set.
    /// </exception>
    public static IReadOnlyList<EnvLine> Parse(SourceText source, IReadOnlyDictionary<string, string> environment)
    {
        List<EnvLine> found = [];
        Dictionary<string, int> lines = [];
        IReadOnlyList<EnvPiece> pieces = EnvDocument.Parse(source);
        EnvExpansion expansion = new(pieces, environment);
        for (int i = 0; i < pieces.Count; i++)
        {
            if (!pieces[i].IsOurs)
            {
                continue;
            }

            EnvPiece piece = pieces[i];
            Check(source, piece);
            string where = source.At(piece.Line, piece.Name);
            if (!lines.TryAdd(piece.Name!, piece.Line))
            {
                throw new KvConfigurationException(where, "each variable once", $"it again after line {lines[piece.Name!]}");
            }

            found.Add(new EnvLine(piece.Name!, EnvValue.Read(piece.Value!, where, name => expansion.Find(name, i, where)), piece.Line));
        }

        return found;
    }

    /// <summary>Checks that a piece of ours is a whole declaration, whatever its value says.</summary>
    /// <exception cref="KvConfigurationException">E003: it has no "=", or its value is malformed.</exception>
    public static void Check(SourceText source, EnvPiece piece)
    {
        string where = source.At(piece.Line, piece.Name);
        _ = piece.Value is { } value
            ? EnvValue.Read(value, where, _ => string.Empty)
            : throw new KvConfigurationException(where, "NAME=value", $"\"{piece.Text.Trim()}\"");
    }
}
