namespace KvCacheGpu;

/// <summary>A libc call that failed, by name and errno. Callers turn it into a <see cref="KvCacheException"/>.</summary>
internal sealed class FileCallException(string call, string name, int error) : IOException($"{call} {name}: {NameOf(error)}")
{
    private readonly string _call = call;
    private readonly string _name = name;

    public const int NoEntry = 2;
    public const int InputOutput = 5;
    public const int Exists = 17;
    public const int NotADirectory = 20;
    public const int IsADirectory = 21;
    public const int NoSpace = 28;
    public const int Quota = 122;
    public const int Loop = 40;

    /// <summary>Whether the call may have done its work all the same, and nothing could be found out about it.</summary>
    public bool OutcomeUnknown { get; init; }

    /// <summary>errno.</summary>
    public int Error { get; } = error;

    /// <summary>Whether what was to be read is not there, or not readable for good: another generation may be.</summary>
    public bool IsOfTheFile => Error is NoEntry or InputOutput or IsADirectory or NotADirectory or Loop;

    /// <summary>The same failure, of a call that may have done its work.</summary>
    public FileCallException WithUnknownOutcome() => new(_call, _name, Error) { OutcomeUnknown = true };

    /// <summary>The errors that matter here in words, the others by number.</summary>
    public static string NameOf(int error) => error switch
    {
        1 => "not permitted (EPERM)",
        NoEntry => "not there (ENOENT)",
        InputOutput => "the device failed (EIO)",
        13 => "permission denied (EACCES)",
        17 => "exists already (EEXIST)",
        NotADirectory => "no directory, or a symbolic link in its place (ENOTDIR)",
        IsADirectory => "a directory (EISDIR)",
        24 => "too many open files (EMFILE)",
        NoSpace => "no space left (ENOSPC)",
        30 => "read-only file system (EROFS)",
        Loop => "a symbolic link, which is not followed (ELOOP)",
        Quota => "quota exceeded (EDQUOT)",
        _ => $"errno {error}",
    };
}
