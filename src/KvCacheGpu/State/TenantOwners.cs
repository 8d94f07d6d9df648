namespace KvCacheGpu;

/// <summary>Numbers of the tenants whose pages lie in a cache. The caller is inside of the pool's gate.</summary>
internal sealed class TenantOwners
{
    private const int NoTenant = 1;
    private const int MostKnown = 1 << 16;

    private readonly Dictionary<string, int> _numbers = new(StringComparer.Ordinal);
    private int _last = NoTenant;

    /// <summary>The tenant's number, above 0.</summary>
    /// <remarks>A tenant that was forgotten gets a new number, so that its old pages are cleared once too often, never once too seldom.</remarks>
    public int NumberOf(string? tenant)
    {
        if (tenant is null)
        {
            return NoTenant;
        }

        if (!_numbers.TryGetValue(tenant, out int number))
        {
            if (_numbers.Count == MostKnown)
            {
                _numbers.Clear();
            }

            _numbers[tenant] = number = checked(++_last);
        }

        return number;
    }
}
