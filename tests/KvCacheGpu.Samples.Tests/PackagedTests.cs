using System.Diagnostics;
using System.IO.Compression;
using System.Xml.Linq;
using Xunit.Abstractions;

namespace KvCacheGpu.Samples.Tests;

/// <summary>Programs of somebody else, who has the packages alone.</summary>
public sealed class PackagedTests(ITestOutputHelper output, Packages packages) : IClassFixture<Packages>
{
    [Fact]
    public void A_new_console_project_runs_the_quick_start_of_the_README_verbatim()
    {
        string readme = File.ReadAllText(Path.Combine(Packages.Root, "README.md"));
        string said = packages.Run("Microsoft.NET.Sdk", ["KvCacheGpu"], Block(readme, "using KvCacheGpu;", "csharp"));
        Assert.Equal(Block(readme, "3 tokens", string.Empty).Trim(), said.Trim());
    }

    /// <summary>A web application of ten lines has the cache by injection, its health and its metrics. It asks itself, and stops.</summary>
    [Fact]
    public void A_new_web_project_has_a_cache_its_health_and_its_metrics_in_ten_lines()
    {
        const string program = """
            using KvCacheGpu;
            using KvCacheGpu.Hosting;

            var builder = WebApplication.CreateBuilder(args);
            builder.Logging.ClearProviders();
            builder.Services.AddKvCache(options => options.Geometry = new KvGeometry(layers: 1, queryHeads: 1, kvHeads: 1, keyWidth: 64)).AddHealthCheck();
            builder.Services.AddOpenTelemetry().WithMetrics(metrics => metrics.AddKvCacheInstrumentation().AddReader(new BaseExportingMetricReader(new Names())));
            var app = builder.Build();
            app.MapHealthChecks("/health");
            app.MapGet("/", (KvCache cache) => $"{cache.Device.Id}, {cache.Geometry.KeyWidth}");
            app.Urls.Add("http://127.0.0.1:0");
            await app.StartAsync();
            using var client = new HttpClient { BaseAddress = new Uri(app.Urls.First()) };
            Console.WriteLine(await client.GetStringAsync("/"));
            Console.WriteLine(await client.GetStringAsync("/health"));
            app.Services.GetRequiredService<MeterProvider>().ForceFlush();
            await app.StopAsync();
            """;
        const string exporter = """

            internal sealed class Names : BaseExporter<Metric>
            {
                public override ExportResult Export(in Batch<Metric> batch)
                {
                    foreach (Metric metric in batch)
                    {
                        Console.WriteLine(metric.Name);
                    }

                    return ExportResult.Success;
                }
            }
            """;
        string usings = "using OpenTelemetry;\nusing OpenTelemetry.Metrics;\n";
        string[] lines = packages.Run("Microsoft.NET.Sdk.Web", ["KvCacheGpu.Hosting", "KvCacheGpu.OpenTelemetry"], usings + program + exporter, "OpenTelemetry.Extensions.Hosting").Trim().Split('\n');
        Assert.Equal(("cpu, 64", "Healthy"), (lines[0], lines[1]));
        Assert.Contains("kvcache.memory.usage", lines);
    }

    /// <summary>samples/NativeAot: no warning of ours, no device but the CPU, which "auto" takes; code for AVX-512, AVX2 or neither as the program asks.</summary>
    [Theory]
    [InlineData("", "scalar")]
    [InlineData("native", "")]
    public void A_program_that_is_compiled_ahead_of_time_runs_without_warnings_of_ours(string processors, string vectors)
    {
        if (new[] { "clang", "gcc" }.FirstOrDefault(IsThere) is not { } linker)
        {
            output.WriteLine("skipped: there is neither clang nor gcc to link with");
            return;
        }

        if (packages.RunAheadOfTime("NativeAot", "KvCacheGpu", processors, linker, out string refusal) is not var (compiler, said))
        {
            output.WriteLine($"skipped: the package sources do not have the compiler for programs ahead of time: {refusal}");
            return;
        }

        Assert.DoesNotContain(compiler.Split('\n'), line => line.Contains("warning", StringComparison.Ordinal) && line.Contains("KvCacheGpu", StringComparison.Ordinal));
        string[] lines = said.Trim().Split('\n');
        Assert.Equal(["after 5 6 7 5 comes 6", "saved 4 tokens, after 6 comes 7"], lines[..2]);
        output.WriteLine($"{processors}: {lines[2]}");
        Assert.StartsWith("cpu: ", lines[2], StringComparison.Ordinal);
        Assert.Equal(vectors == "scalar", lines[2].Contains("IlcInstructionSet", StringComparison.Ordinal));
    }

    [Fact]
    public void Each_package_shows_what_a_package_has_to_show_and_brings_what_it_uses_alone()
    {
        foreach (string file in packages.Files)
        {
            using ZipArchive package = ZipFile.OpenRead(file);
            string id = Path.GetFileName(file)[..^$".{Packages.Version}.nupkg".Length];
            using Stream text = package.GetEntry($"{id}.nuspec")!.Open();
            XElement metadata = XDocument.Load(text).Root!.Elements().Single();
            string Of(string name) => metadata.Elements().SingleOrDefault(e => e.Name.LocalName == name)?.Value ?? string.Empty;
            Assert.Equal((id, Packages.Version, "MIT"), (Of("id"), Of("version"), Of("license")));
            Assert.True(Of("description").Length > 40 && Of("tags").Contains("kv-cache", StringComparison.Ordinal), id);
            Assert.NotNull(package.GetEntry(Of("icon")));
            using var readme = new StreamReader(package.GetEntry(Of("readme"))!.Open());
            Assert.Equal($"# {id}", readme.ReadLine());
            Assert.NotNull(package.GetEntry($"lib/net10.0/{id}.xml"));
            Assert.True(File.Exists(Path.ChangeExtension(file, ".snupkg")), id);

            // Heavy packages belong to the one that is named after them.
            string[] brought = [.. metadata.Descendants().Where(e => e.Name.LocalName == "dependency").Select(e => (string)e.Attribute("id")!)];
            output.WriteLine($"{id}: {new FileInfo(file).Length / 1024:N0} KiB, {string.Join(", ", brought)}");
            Assert.DoesNotContain(brought, name => name.StartsWith("libtorch", StringComparison.Ordinal) || name.StartsWith("TorchSharp-", StringComparison.Ordinal));
            Assert.Equal(id == "KvCacheGpu.Redis", brought.Contains("StackExchange.Redis"));
            Assert.Equal(id == "KvCacheGpu.Catalog.Sqlite", brought.Contains("Microsoft.Data.Sqlite"));
            Assert.Equal(id == "KvCacheGpu.Catalog.PostgreSql", brought.Contains("Npgsql"));
            Assert.True(id != "KvCacheGpu.Catalog" || brought.Length == 0, id);
            Assert.True(id is not ("KvCacheGpu.Base" or "KvCacheGpu.Kernels") || brought.All(name => name.StartsWith("ILGPU", StringComparison.Ordinal)), id);
        }
    }

    private static bool IsThere(string program) =>
        (Environment.GetEnvironmentVariable("PATH") ?? string.Empty).Split(Path.PathSeparator).Any(folder => File.Exists(Path.Combine(folder, program)));

    // The first block of a language in which a text stands.
    private static string Block(string document, string text, string language)
    {
        string fence = $"```{language}\n";
        for (int at = document.IndexOf(fence, StringComparison.Ordinal); at >= 0; at = document.IndexOf(fence, at + 3, StringComparison.Ordinal))
        {
            int first = at + fence.Length;
            string block = document[first..document.IndexOf("```", first, StringComparison.Ordinal)];
            if (block.Contains(text, StringComparison.Ordinal))
            {
                return block;
            }
        }

        throw new InvalidOperationException($"no block with {text}");
    }
}

/// <summary>The packages that a host references, packed from what was built, and projects that reference them.</summary>
public sealed class Packages : IDisposable
{
    /// <summary>A version that no other folder has.</summary>
    public static readonly string Version = $"2.1.0-packed.{Guid.NewGuid():N}";

    private static readonly string[] _projects =
    [
        "kernels/KvCacheGpu.Kernels", "src/KvCacheGpu.Base", "src/KvCacheGpu.Snapshots", "src/KvCacheGpu", "src/KvCacheGpu.Redis", "src/KvCacheGpu.Sessions",
        "src/KvCacheGpu.Hosting", "src/KvCacheGpu.OpenTelemetry", "src/KvCacheGpu.Catalog", "src/KvCacheGpu.Catalog.Sqlite", "src/KvCacheGpu.Catalog.PostgreSql",
        "src/KvCacheGpu.Serving", "src/KvCacheGpu.Serving.AspNetCore", "src/KvCacheGpu.Serving.AI", "src/KvCacheGpu.Llama",
    ];

    // A package source that does not answer.
    private const string SourceIsSilent = "NU1301";

    // No such package, no such version.
    private static readonly string[] _notThere = ["NU1101", "NU1102", "NU1103"];

    private readonly string _folder = Directory.CreateTempSubdirectory("packages-").FullName;

    public Packages()
    {
        string configuration = AppContext.BaseDirectory.Contains("/Release/", StringComparison.Ordinal) ? "Release" : "Debug";
        foreach (string project in _projects)
        {
            Dotnet(Root, "pack", project, "-c", configuration, "--no-build", "-o", Path.Combine(_folder, "feed"), $"-p:Version={Version}", "-p:NoWarn=NU5104");
        }

        Files = [.. Directory.GetFiles(Path.Combine(_folder, "feed"), "*.nupkg").Order(StringComparer.Ordinal)];
        Assert.Equal(_projects.Length, Files.Count);
    }

    /// <summary>The repository.</summary>
    public static string Root { get; } = FindRoot();

    /// <summary>The packages.</summary>
    public IReadOnlyList<string> Files { get; }

    /// <summary>Builds a new project outside of the repository and runs it.</summary>
    /// <param name="sdk">Its SDK.</param>
    /// <param name="packages">Packages that it references.</param>
    /// <param name="program">Its program.</param>
    /// <param name="other">A package of others that it references too, in the version that this repository has.</param>
    /// <returns>What it prints.</returns>
    public string Run(string sdk, IReadOnlyList<string> packages, string program, string? other = null)
    {
        string folder = Write(sdk, packages, program, string.Empty, other);
        Dotnet(folder, "build", "-c", "Release", "-o", Path.Combine(folder, "out"));
        return Dotnet(folder, "exec", Path.Combine(folder, "out", "App.dll"));
    }

    /// <summary>Builds a sample ahead of time, from the packages in place of the projects, and runs it.</summary>
    /// <param name="sample">Its folder.</param>
    /// <param name="package">The package that it references.</param>
    /// <param name="processors">The processors that it is built for; empty: whatever the compiler takes.</param>
    /// <param name="linker">The linker: clang or gcc.</param>
    /// <param name="refusal">What the restore says if the package sources do not have the compiler; else empty.</param>
    /// <returns>What the compiler says, and what the program prints; null if there is no compiler.</returns>
    public (string Compiler, string Program)? RunAheadOfTime(string sample, string package, string processors, string linker, out string refusal)
    {
        string from = Path.Combine(Root, "samples", sample);
        XElement project = XDocument.Load(Directory.GetFiles(from, "*.csproj").Single()).Root!;
        XElement publishing = project.Elements("PropertyGroup").Single(group => ((string?)group.Attribute("Condition"))?.Contains("_IsPublishing", StringComparison.Ordinal) == true);
        Assert.Equal("true", (string?)publishing.Element("PublishAot"));
        publishing.SetElementValue("IlcInstructionSet", processors);
        publishing.SetElementValue("CppCompilerAndLinker", linker);
        string folder = Write("Microsoft.NET.Sdk", [package], File.ReadAllText(Path.Combine(from, "Program.cs")), string.Concat(publishing.Elements()));
        foreach (XElement shared in project.Descendants("Compile"))
        {
            File.Copy(Path.Combine(from, (string)shared.Attribute("Include")!), Path.Combine(folder, (string)shared.Attribute("Link")!));
        }


        // The compiler is a package of its own, which nothing else here needs: a machine may be without it.
        (int code, string restored) = Try(DotnetHost, folder, "restore", "--use-current-runtime");
        bool isCompilerMissing = _notThere.Any(id => restored.Contains(id, StringComparison.Ordinal)) && restored.Contains("ILCompiler", StringComparison.OrdinalIgnoreCase);
        refusal = code != 0 && (isCompilerMissing || restored.Contains(SourceIsSilent, StringComparison.Ordinal)) ? restored : string.Empty;
        if (refusal.Length > 0)
        {
            return null;
        }

        Assert.True(code == 0, restored);
        string said = Dotnet(folder, "publish", "-c", "Release", "--no-restore", "--use-current-runtime", "-o", Path.Combine(folder, "out"));
        return (said, Run(Path.Combine(folder, "out", "App"), folder));
    }

    private string Write(string sdk, IReadOnlyList<string> packages, string program, string properties, string? other = null)
    {
        string folder = Path.Combine(_folder, $"app-{Directory.GetDirectories(_folder).Length}");
        Directory.CreateDirectory(folder);
        string references = string.Concat(packages.Select(name => $"<PackageReference Include=\"{name}\" Version=\"{Version}\" />"));
        if (other is not null)
        {
            string version = XDocument.Load(Path.Combine(Root, "Directory.Packages.props")).Descendants("PackageVersion").Single(e => (string)e.Attribute("Include")! == other).Attribute("Version")!.Value;
            references += $"<PackageReference Include=\"{other}\" Version=\"{version}\" />";
        }

        File.WriteAllText(Path.Combine(folder, "App.csproj"), $"""
            <Project Sdk="{sdk}">
              <PropertyGroup>
                <OutputType>Exe</OutputType>
                <TargetFramework>net10.0</TargetFramework>
                <ImplicitUsings>enable</ImplicitUsings>
                <Nullable>enable</Nullable>
                <TreatWarningsAsErrors>true</TreatWarningsAsErrors>
                <RestoreAdditionalProjectSources>{Path.Combine(_folder, "feed")}</RestoreAdditionalProjectSources>
                {properties}
              </PropertyGroup>
              <ItemGroup>{references}</ItemGroup>
            </Project>
            """);
        File.WriteAllText(Path.Combine(folder, "Program.cs"), program);
        return folder;
    }

    public void Dispose()
    {
        Directory.Delete(_folder, recursive: true);
        foreach (string file in Files)
        {
            // Restored packages stay for all projects of a user; nobody has another one with these.
            string restored = Path.Combine(GlobalPackages, Path.GetFileName(file)[..^$".{Version}.nupkg".Length].ToLowerInvariant(), Version);
            if (Directory.Exists(restored))
            {
                Directory.Delete(restored, recursive: true);
            }
        }
    }

    private static string GlobalPackages { get; } = Environment.GetEnvironmentVariable("NUGET_PACKAGES")
        ?? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".nuget", "packages");

    private static string DotnetHost => Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet";

    private static string Dotnet(string folder, params string[] arguments) => Run(DotnetHost, folder, arguments);

    private static string Run(string program, string folder, params string[] arguments)
    {
        (int code, string said) = Try(program, folder, arguments);
        Assert.True(code == 0, $"{program} {string.Join(' ', arguments)}: {said}");
        return said;
    }

    // What is said on the error stream comes last, where there is an error.
    private static (int Code, string Said) Try(string program, string folder, params string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments)
        {
            WorkingDirectory = folder,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };

        // What the test runner's own build says is not for these.
        foreach (string name in start.Environment.Keys.Where(name => name.StartsWith("MSBuild", StringComparison.OrdinalIgnoreCase)).ToArray())
        {
            start.Environment.Remove(name);
        }

        start.Environment["MSBUILDDISABLENODEREUSE"] = "1";
        using Process process = Process.Start(start)!;
        Task<string> error = process.StandardError.ReadToEndAsync();
        string said = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, process.ExitCode == 0 ? said : said + error.Result);
    }

    private static string FindRoot()
    {
        string folder = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(folder, "KvCacheGpu.sln")))
        {
            folder = Path.GetDirectoryName(folder)!;
        }

        return folder;
    }
}
