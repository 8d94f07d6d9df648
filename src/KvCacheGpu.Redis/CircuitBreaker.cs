namespace KvCacheGpu;

/// <summary>
/// Leaves a server alone that failed several times in a row: no call is made for a while, then one, whose outcome decides.
/// </summary>
/// <param name="after">Failures in a row that open it.</param>
/// <param name="wait">How long it stays open before a call is made.</param>
/// <param name="clock">Tells the time.</param>
internal sealed class CircuitBreaker(int after, TimeSpan wait, TimeProvider clock)
{
    private readonly Lock _lock = new();
    private int _failures;
    private long _failed;
    private bool _isProbing;
    private long _refused;

    /// <summary>True if the server failed so often that it is left alone, until a call succeeds.</summary>
    public bool IsOpen
    {
        get
        {
            lock (_lock)
            {
                return _failures >= after;
            }
        }
    }

    /// <summary>Calls that were not made.</summary>
    public long Refused
    {
        get
        {
            lock (_lock)
            {
                return _refused;
            }
        }
    }

    /// <summary>True if a call may be made. Then one of <see cref="Succeed"/>, <see cref="Fail"/> and <see cref="Leave"/> must follow.</summary>
    public bool TryEnter()
    {
        lock (_lock)
        {
            if (_failures < after)
            {
                return true;
            }

            if (_isProbing || clock.GetElapsedTime(_failed) < wait)
            {
                _refused++;
                return false;
            }

            return _isProbing = true;
        }
    }

    /// <summary>The server answered.</summary>
    public void Succeed()
    {
        lock (_lock)
        {
            _failures = 0;
            _isProbing = false;
        }
    }

    /// <summary>The server did not answer, or could not do what it was asked.</summary>
    public void Fail()
    {
        lock (_lock)
        {
            _failures = Math.Min(_failures + 1, after);
            _failed = clock.GetTimestamp();
            _isProbing = false;
        }
    }

    /// <summary>The caller gave up before anything was known.</summary>
    public void Leave()
    {
        lock (_lock)
        {
            _isProbing = false;
        }
    }
}
