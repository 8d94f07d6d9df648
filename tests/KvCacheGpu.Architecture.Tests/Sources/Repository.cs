namespace KvCacheGpu.Architecture.Tests.Sources;

/// <summary>The files of the repository that people write: no build output.</summary>
internal static class Repository
{
    public static readonly string Root = FindRoot();

    private static readonly string[] Rooms = [.. new[] { "src", "kernels", "tests", "bench", "tools", "samples" }.Where(room => Directory.Exists(Path.Combine(Root, room)))];

    /// <summary>Every C# file of the repository, as full paths, in order.</summary>
    public static readonly string[] Files = [.. Rooms.SelectMany(room => In(room, "*.cs"))];

    /// <summary>Every project file of the repository, as full paths, in order.</summary>
    public static readonly string[] Projects = [.. Rooms.SelectMany(room => In(room, "*.csproj"))];

    /// <summary>The path of a file as the repository names it, with slashes.</summary>
    public static string Named(string file) => Path.GetRelativePath(Root, file).Replace('\\', '/');

    /// <summary>The files below a folder of the repository that match a pattern, without those that a build made.</summary>
    public static IEnumerable<string> In(string folder, string pattern) =>
        Directory.EnumerateFiles(Path.Combine(Root, folder), pattern, SearchOption.AllDirectories)
            .Where(file => !Named(file).Split('/').Any(part => part is "obj" or "bin"))
            .Order(StringComparer.Ordinal);

    private static string FindRoot()
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(directory!.FullName, "KvCacheGpu.sln")))
        {
            directory = directory.Parent;
        }

        return directory.FullName;
    }
}
