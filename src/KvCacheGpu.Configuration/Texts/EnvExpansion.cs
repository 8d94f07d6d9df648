namespace KvCacheGpu.Configuration;

/// <summary>
/// Finds the variables that values of a .env file name: in the environment, then in the lines above, the nearest first. A few short lines can ask for a value without
/// end (each names the one above twice), so what all values of a file take together is bounded before it is made.
/// </summary>
internal sealed class EnvExpansion(IReadOnlyList<EnvPiece> pieces, IReadOnlyDictionary<string, string> environment)
{
    private const int MostDepth = 32;

    // Of each variable the pieces that set it, in order.
    private readonly Dictionary<string, List<int>> _places = Enumerable.Range(0, pieces.Count).Where(i => pieces[i].Value is not null)
        .GroupBy(i => pieces[i].Name!, StringComparer.Ordinal).ToDictionary(places => places.Key, places => places.ToList(), StringComparer.Ordinal);

    private int _left = TextFile.MostBytes;
    private int _depth;

    /// <summary>The value of a variable for a line; null where it is not set.</summary>
    /// <param name="name">The variable.</param>
    /// <param name="before">The piece that names it: only those above count.</param>
    /// <param name="where">The place that asks, for errors.</param>
    /// <exception cref="KvConfigurationException">E003: the values of the file take too much, or name one another too deeply.</exception>
    public string? Find(string name, int before, string where)
    {
        if (!environment.TryGetValue(name, out string? value))
        {
            int next = _places.TryGetValue(name, out List<int>? places) ? places.BinarySearch(before) : -1;
            next = next < 0 ? ~next : next;
            value = next > 0 ? Read(places![next - 1], where) : null;
        }

        _left -= 1 + (value?.Length ?? 0);
        return _left >= 0 ? value : throw new KvConfigurationException(where, $"values of at most {TextFile.MostBytes} characters together", "more");
    }

    private string Read(int at, string where)
    {
        if (_depth == MostDepth)
        {
            throw new KvConfigurationException(where, $"variables that name one another over at most {MostDepth} steps", "more");
        }

        _depth++;
        try
        {
            // What another program names and does not set is nothing to it; only our own values must be whole.
            bool isForeign = !pieces[at].IsOurs;
            return EnvValue.Read(pieces[at].Value!, where, name => Find(name, at, where) ?? (isForeign ? string.Empty : null), isForeign);
        }
        finally
        {
            _depth--;
        }
    }
}
