namespace KvCacheGpu.Snapshots.Tests;

/// <summary>The program that tests start as another process, to kill it or to save beside it.</summary>
public static class Program
{
    /// <summary>Runs a child.</summary>
    public static int Main(string[] args) => args is ["save-snapshots", string directory, string first, string count, string tokens]
        ? SavingChild.Run(directory, int.Parse(first), int.Parse(count), int.Parse(tokens))
        : 2;
}
