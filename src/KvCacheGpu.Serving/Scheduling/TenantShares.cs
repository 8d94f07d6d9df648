namespace KvCacheGpu.Serving;

/// <summary>
/// What tenants were served, by which the next one is chosen: the one with the least. A tenant that comes back after a while begins at the least of those that are there, so
/// that nobody saves up a claim to the whole machine (the virtual token counter of Sheng et al. 2024, "Fairness in serving large language models").
/// </summary>
internal sealed class TenantShares(IReadOnlyDictionary<string, double>? weights)
{
    // A token of an answer takes a pass over the weights, one of a prompt shares it.
    private const double AnswerToken = 2;

    // Keys are tenants' names; "" stands for none, which no tenant is named.
    private readonly Dictionary<string, double> _served = new(StringComparer.Ordinal);
    private readonly Dictionary<string, int> _here = new(StringComparer.Ordinal);

    /// <summary>Tenants that are remembered.</summary>
    public int Count => _served.Count;

    private double Least => _here.Keys.Min(other => _served[other]);

    /// <summary>What a tenant was served, in tokens of prompts over its weight.</summary>
    public double Of(string? tenant) => _served.GetValueOrDefault(tenant ?? "");

    /// <summary>A request has come.</summary>
    public void Enter(string? tenant)
    {
        string key = tenant ?? "";
        if (_here.TryGetValue(key, out int requests))
        {
            _here[key] = requests + 1;
            return;
        }

        _served[key] = Math.Max(_served.GetValueOrDefault(key), _here.Count == 0 ? 0 : Least);
        _here[key] = 1;
    }

    /// <summary>A request has ended.</summary>
    public void Leave(string? tenant)
    {
        string key = tenant ?? "";
        if (--_here[key] > 0)
        {
            return;
        }

        _here.Remove(key);

        // Who would begin at the least anyway is forgotten, so that names of tenants do not pile up.
        double least = _here.Count == 0 ? double.PositiveInfinity : Least;
        foreach ((string other, double served) in _served)
        {
            if (served <= least && !_here.ContainsKey(other))
            {
                _served.Remove(other);
            }
        }
    }

    /// <summary>Tokens were computed.</summary>
    /// <param name="tenant">For whom.</param>
    /// <param name="prompt">Tokens of prompts.</param>
    /// <param name="answer">Tokens of answers.</param>
    public void Charge(string? tenant, int prompt, int answer)
    {
        string key = tenant ?? "";
        double weight = weights is not null && weights.TryGetValue(key, out double own) ? own : 1;
        _served[key] = _served.GetValueOrDefault(key) + ((prompt + (AnswerToken * answer)) / weight);
    }
}
