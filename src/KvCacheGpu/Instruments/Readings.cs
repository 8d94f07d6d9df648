using System.Diagnostics.Metrics;
using System.Numerics;

namespace KvCacheGpu;

/// <summary>Adds up what is read of several caches under the same tags: a listener is told one value for each set of tags.</summary>
internal sealed class Readings<T>
    where T : struct, INumber<T>
{
    private readonly Dictionary<KeyValuePair<string, object?>[], T> _values = new(new SameTags());

    /// <summary>What was read.</summary>
    public IEnumerable<Measurement<T>> All => _values.Select(one => new Measurement<T>(one.Value, one.Key));

    public void Add(T value, params KeyValuePair<string, object?>[] tags) => _values[tags] = _values.GetValueOrDefault(tags) + value;

    private sealed class SameTags : IEqualityComparer<KeyValuePair<string, object?>[]>
    {
        public bool Equals(KeyValuePair<string, object?>[]? x, KeyValuePair<string, object?>[]? y) => x.AsSpan().SequenceEqual(y);

        public int GetHashCode(KeyValuePair<string, object?>[] obj)
        {
            var hash = default(HashCode);
            foreach (KeyValuePair<string, object?> tag in obj)
            {
                hash.Add(tag);
            }

            return hash.ToHashCode();
        }
    }
}
