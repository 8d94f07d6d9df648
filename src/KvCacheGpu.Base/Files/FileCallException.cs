namespace KvCacheGpu;

/// <summary>A libc call that failed, by name and errno. Callers turn it into a <see cref="KvCacheException"/>.</summary>
/// <param name="call">Name of the call, "fsync".</param>
/// <param name="name">Name of the file, or what else says where it failed.</param>
/// <param name="error">errno.</param>
public sealed class FileCallException(string call, string name, int error) : IOException($"{call} {name}: {NameOf(error)}")
{
    private readonly string _call = call;
    private readonly string _name = name;

    /// <summary>ENOENT: it is not there.</summary>
    public const int NoEntry = 2;

    /// <summary>EIO: the device failed.</summary>
    public const int InputOutput = 5;

    /// <summary>EEXIST: it exists already.</summary>
    public const int Exists = 17;

    /// <summary>ENOTDIR: no directory, or a symbolic link in its place.</summary>
    public const int NotADirectory = 20;

    /// <summary>EISDIR: a directory in a file's place.</summary>
    public const int IsADirectory = 21;

    /// <summary>ENOSPC: the disk is full.</summary>
    public const int NoSpace = 28;

    /// <summary>ELOOP: a symbolic link, which is not followed.</summary>
    public const int Loop = 40;

    /// <summary>EDQUOT: the user's quota is used up.</summary>
    public const int Quota = 122;

    /// <summary>True if the call may have done its work all the same, and nothing could be found out about it.</summary>
    public bool OutcomeUnknown { get; init; }

    /// <summary>errno.</summary>
    public int Error { get; } = error;

    /// <summary>True if trying again is of no use: the file is not there, or cannot be read. Another copy of it may do.</summary>
    public bool IsOfTheFile => Error is NoEntry or InputOutput or IsADirectory or NotADirectory or Loop;

    /// <summary>The same failure, marked as one of a call that may have done its work.</summary>
    public FileCallException WithUnknownOutcome() => new(_call, _name, Error) { OutcomeUnknown = true };

    /// <summary>Says the errors that matter here in words, the others by number.</summary>
    public static string NameOf(int error) => error switch
    {
        1 => "not permitted (EPERM)",
        NoEntry => "not there (ENOENT)",
        InputOutput => "the device failed (EIO)",
        13 => "permission denied (EACCES)",
        Exists => "exists already (EEXIST)",
        NotADirectory => "no directory, or a symbolic link in its place (ENOTDIR)",
        IsADirectory => "a directory (EISDIR)",
        24 => "too many open files (EMFILE)",
        NoSpace => "no space left (ENOSPC)",
        30 => "read-only file system (EROFS)",
        Loop => "a symbolic link, which is not followed (ELOOP)",
        Quota => "quota exceeded (EDQUOT)",
        _ => Kernel32.OwnError(error) is { } own ? $"error {own} of Windows" : $"errno {error}",
    };
}
