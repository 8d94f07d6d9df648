using System.Xml.Linq;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;

namespace KvCacheGpu.Architecture.Tests.Sources;

/// <summary>
/// One project as the compiler sees it: its files, parsed and bound. Code that source generators add is missing, which costs nothing here, since it
/// lies in no folder. Code for Debug builds is read too.
/// </summary>
internal sealed class ProjectSource
{
    // The usings that the SDK gives to every project with ImplicitUsings.
    private const string ImplicitUsings =
        "global using System; global using System.Collections.Generic; global using System.IO; global using System.Linq; " +
        "global using System.Net.Http; global using System.Threading; global using System.Threading.Tasks; ";

    private static readonly CSharpParseOptions Parsing = new(LanguageVersion.Preview, DocumentationMode.None, preprocessorSymbols: ["DEBUG", "NET", "NET10_0"]);

    // The framework, the packages and the projects that this test references, as the host that runs it found them; not the test itself.
    private static readonly MetadataReference[] Assemblies =
    [
        .. ((string)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES")!).Split(Path.PathSeparator)
            .Where(file => file != typeof(ProjectSource).Assembly.Location).Select(file => MetadataReference.CreateFromFile(file)),
    ];

    private ProjectSource(string name, IEnumerable<(string Path, string Text)> files, string usings)
    {
        Name = name;
        SyntaxTree implicits = CSharpSyntaxTree.ParseText(ImplicitUsings + usings, Parsing);
        Files = [.. files.Select(file => CSharpSyntaxTree.ParseText(file.Text, Parsing, file.Path))];
        Compilation = CSharpCompilation.Create(
            name,
            [.. Files, implicits],
            // A project's own assembly is among the references of those above it: its types would be there twice.
            Assemblies.Where(assembly => Path.GetFileNameWithoutExtension(assembly.Display) != name),
            new CSharpCompilationOptions(OutputKind.DynamicallyLinkedLibrary, allowUnsafe: true));
    }

    /// <summary>The name of the assembly.</summary>
    public string Name { get; }

    /// <summary>The files, with paths from the project's folder.</summary>
    public IReadOnlyList<SyntaxTree> Files { get; }

    public CSharpCompilation Compilation { get; }

    /// <summary>Reads a project of the repository.</summary>
    public static ProjectSource Read(string project)
    {
        XDocument document = XDocument.Load(project);
        string folder = Path.GetDirectoryName(project)!;
        string name = document.Descendants("AssemblyName").FirstOrDefault()?.Value ?? Path.GetFileNameWithoutExtension(project);
        string usings = string.Concat(document.Descendants("Using").Select(item => $"global using {item.Attribute("Include")!.Value}; "));
        return new ProjectSource(
            name,
            Repository.In(Repository.Named(folder), "*.cs").Select(file => (Path.GetRelativePath(folder, file).Replace('\\', '/'), File.ReadAllText(file))),
            usings);
    }

    /// <summary>A project made up for a test: paths and contents of its files.</summary>
    public static ProjectSource MadeUp(params IEnumerable<(string Path, string Text)> files) => new("MadeUp", files, string.Empty);

    /// <summary>The folder of the project that a file lies in, at the first level; the project's own folder is the root, "".</summary>
    public static string FolderOf(string path) => path.Contains('/', StringComparison.Ordinal) ? path[..path.IndexOf('/', StringComparison.Ordinal)] : string.Empty;
}
