using System.Diagnostics;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Xml.Linq;

namespace KvCacheGpu.Cli.Tests.Docs;

/// <summary>
/// Every block of C# in the documents is a program: it is written to a file as it stands, built and run by <c>dotnet run FILE</c>. The folder above
/// adds the references that a reader's project has; nothing else is added.
/// </summary>
public class SnippetTests
{
    // In the tests' output, so that the SDK of global.json builds, and what it keeps of a file between builds is found again.
    private static readonly string Folder = Path.Combine(AppContext.BaseDirectory, "snippets");

    public static TheoryData<string> Documents => [.. Guide.All.Where(guide => guide.Snippets().Any()).Select(guide => guide.Name)];

    [Theory]
    [MemberData(nameof(Documents))]
    public void Every_block_of_CSharp_is_a_program_that_runs(string document)
    {
        WriteReferences();
        List<Guide.Snippet> snippets = [.. Guide.All.Single(guide => guide.Name == document).Snippets()];
        string[] failures = [.. snippets.AsParallel().WithDegreeOfParallelism(2).Select(Run).Where(failure => failure.Length > 0)];
        Assert.True(failures.Length == 0, string.Join(Environment.NewLine, failures));
    }

    [Fact]
    public void No_block_of_CSharp_is_missed()
    {
        int fences = Guide.All.Sum(guide => guide.Text.Split('\n').Count(line => line.TrimStart().StartsWith("```c", StringComparison.OrdinalIgnoreCase)));
        Assert.Equal(fences, Guide.All.Sum(guide => guide.Snippets().Count() + guide.Excerpts().Count()));
        Assert.InRange(fences, 10, int.MaxValue);
    }

    [Fact]
    public void Every_excerpt_stands_in_its_file()
    {
        (string Document, string File, string Text)[] excerpts = [.. Guide.All.SelectMany(guide => guide.Excerpts().Select(one => (guide.Name, one.File, one.Text)))];
        Assert.NotEmpty(excerpts);
        Assert.All(excerpts, one => Assert.Contains(Unindented(one.Text), Unindented(File.ReadAllText(Path.Combine(Guide.Root, one.File))), StringComparison.Ordinal));
    }

    [Fact]
    public void A_block_that_does_not_build_fails_or_throws_or_prints_something_else_is_seen()
    {
        WriteReferences();
        var files = new Dictionary<string, string> { ["told.txt"] = "told" };
        Assert.Empty(Run(new Guide.Snippet("made-up-1", "Console.Write(File.ReadAllText(\"told.txt\"));", files, "told\n")));
        Assert.Contains("CS0103", Run(new Guide.Snippet("made-up-2", "Console.Write(undefined);", files, null)), StringComparison.Ordinal);
        Assert.Contains("E002", Run(new Guide.Snippet("made-up-3", "throw new Exception(\"E002\");", files, null)), StringComparison.Ordinal);
        Assert.Contains("prints", Run(new Guide.Snippet("made-up-4", "Console.Write(1);", files, "2\n")), StringComparison.Ordinal);
    }

    [Fact]
    public void Every_example_of_the_API_is_a_program_that_runs()
    {
        WriteReferences();
        string failure = Run(Examples.Program(Examples.All));
        Assert.True(failure.Length == 0, failure);
        Assert.Contains("the example of M:made-up fails", Run(Examples.Program([("M:made-up", "using System.Text;\n\nawait Task.Yield();\nthrow new Exception();")])), StringComparison.Ordinal);
        Assert.Contains("error CS0103", Run(Examples.Program([("M:made-up", "int cache = 1;\nundefined();")])), StringComparison.Ordinal);
    }

    /// <summary>Each example is in the documentation of a member, and the members that a host begins with have one.</summary>
    [Fact]
    public void No_example_of_the_API_is_missed_and_the_first_members_have_one()
    {
        int written = XDocument.Load(Path.Combine(Guide.Root, Examples.Source)).Root!.Elements().Count();
        Assert.Equal(written, Examples.All.Select(example => example.Code).Distinct().Count());
        string[] sources = [.. new[] { "src", "kernels" }.SelectMany(room => Directory.EnumerateFiles(Path.Combine(Guide.Root, room), "*.cs", SearchOption.AllDirectories)).Select(File.ReadAllText)];
        Assert.DoesNotContain(sources, text => text.Contains("<example>", StringComparison.Ordinal));
        Assert.Equal(sources.Sum(text => text.Split("examples.xml").Length - 1), Examples.All.Count);
        string[] first =
        [
            "KvCache.#ctor", "KvCache.CreateSequence", "KvCache.Begin", "KvCache.CanAppend", "KvAdmission.CanHold", "KvSequence.Begin", "KvSequence.Reuse", "KvSequence.Fork", "KvSequence.Truncate",
            "KvStep.Append", "KvStep.Attend", "KvStep.Commit", "KvCacheSnapshots.SaveAsync", "KvCacheSnapshots.LoadAsync", "KvCacheSwapping.SwapOutAsync", "KvRedisTier.#ctor",
            "UltraAdaptiveKvCacheEngine", "Hosting.KvCacheServices.AddKvCache", "Catalog.CacheCatalog.#ctor",
        ];
        Assert.All(first, name => Assert.Contains(Examples.All, example => example.Member[2..].Split('(')[0] == $"KvCacheGpu.{name}"));
    }

    private static string Unindented(string text) => string.Concat(text.Split('\n').Select(line => line.Trim()).Where(line => line.Length > 0).Select(line => $"{line}\n"));

    // Returns why a block does not hold, or "".
    private static string Run(Guide.Snippet snippet)
    {
        string folder = Path.Combine(Folder, snippet.Name), work = Path.Combine(folder, "work");
        if (Directory.Exists(work))
        {
            Directory.Delete(work, recursive: true);
        }

        foreach ((string name, string text) in snippet.Files)
        {
            string file = Path.Combine(work, name);
            Directory.CreateDirectory(Path.GetDirectoryName(file)!);
            File.WriteAllText(file, text);
        }

        Directory.CreateDirectory(work);
        string program = Path.Combine(folder, "snippet.cs");
        WriteIfChanged(program, snippet.Code);
        var start = new ProcessStartInfo(Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet", ["run", program])
        {
            WorkingDirectory = work,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        };
        // The test host's own build must not speak into this one; a reader's variables neither.
        foreach (string name in start.Environment.Keys.Where(name => name.StartsWith("MSBUILD", StringComparison.OrdinalIgnoreCase) || name.StartsWith("KV_CACHE", StringComparison.Ordinal)).ToList())
        {
            start.Environment.Remove(name);
        }

        start.Environment["MSBUILDDISABLENODEREUSE"] = "1";
        start.Environment["DOTNET_CLI_TELEMETRY_OPTOUT"] = "1";
        start.Environment["DOTNET_NOLOGO"] = "1";
        start.Environment["DOTNET_SYSTEM_GLOBALIZATION_INVARIANT"] = "1";
        using Process process = Process.Start(start)!;
        process.StandardInput.Close();
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return process.ExitCode != 0
            ? $"{snippet.Name} ends with {process.ExitCode}: {output}{errors.Result}"
            : snippet.Prints is { } prints && prints.TrimEnd() != output.TrimEnd() ? $"{snippet.Name} prints {output}, not {prints}" : string.Empty;
    }

    // References to the assemblies that this test was built with, not to their projects: those would be built a second time, into folders that other
    // tests run from. A file-based app is one for ahead-of-time compilation; its switches are set, without the compiler that only publishing needs, unless
    // the file says that it is none (#:property PublishAot=false).
    private static void WriteReferences()
    {
        string[] assemblies = [.. Libraries().Order(StringComparer.Ordinal)];
        string system = OperatingSystem.IsWindows() ? "win" : OperatingSystem.IsMacOS() ? "osx" : "linux";
        string native = Path.Combine(
            AppContext.BaseDirectory, "runtimes", $"{system}-{RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant()}", "native", "*e_sqlite3*");
        Directory.CreateDirectory(Folder);
        // The newest time of what is referenced makes the file another one when that was built anew, so that the SDK builds anew, too.
        WriteIfChanged(
            Path.Combine(Folder, "Directory.Build.props"),
            $"""
            <Project>
              <!-- {assemblies.Max(File.GetLastWriteTimeUtc):O} -->
              <PropertyGroup>
                <PublishAot>off</PublishAot>
                <JsonSerializerIsReflectionEnabledByDefault>false</JsonSerializerIsReflectionEnabledByDefault>
              </PropertyGroup>
              <ItemGroup>
                <RuntimeHostConfigurationOption Include="System.Runtime.CompilerServices.RuntimeFeature.IsDynamicCodeSupported" Value="false" Trim="true"
                  Condition="'($(PublishAot))' == '(off)'" />
                <Reference Include="{string.Join(';', assemblies)}" />
                <None Include="{native}" Link="%(Filename)%(Extension)" CopyToOutputDirectory="PreserveNewest" />
              </ItemGroup>
            </Project>
            """);
        WriteIfChanged(Path.Combine(Folder, "Directory.Packages.props"), "<Project />");
    }

    // The libraries of src and kernels, with the packages that they reference, as they lie beside this test.
    private static HashSet<string> Libraries()
    {
        var found = new HashSet<string>(StringComparer.Ordinal);
        var open = new Stack<string>(new[] { "src", "kernels" }
            .SelectMany(room => Directory.EnumerateFiles(Path.Combine(Guide.Root, room), "*.csproj", SearchOption.AllDirectories))
            .Select(file => Path.GetFileNameWithoutExtension(file)));
        open.Push("SQLitePCLRaw.batteries_v2"); // Microsoft.Data.Sqlite finds it by name.
        open.Push("Microsoft.Extensions.Hosting"); // The host of an application with a cache.
        while (open.TryPop(out string? name))
        {
            string file = Path.Combine(AppContext.BaseDirectory, $"{name}.dll");
            if (File.Exists(file) && found.Add(file))
            {
                foreach (AssemblyName referenced in Assembly.LoadFrom(file).GetReferencedAssemblies())
                {
                    open.Push(referenced.Name!);
                }
            }
        }

        return found;
    }

    private static void WriteIfChanged(string file, string text)
    {
        if (!File.Exists(file) || File.ReadAllText(file) != text)
        {
            Directory.CreateDirectory(Path.GetDirectoryName(file)!);
            File.WriteAllText(file, text);
        }
    }
}
