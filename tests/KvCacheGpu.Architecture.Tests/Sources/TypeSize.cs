using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp.Syntax;

namespace KvCacheGpu.Architecture.Tests.Sources;

/// <summary>A type of a project, with all of its parts: how many lines they have together, and how many parts there are.</summary>
internal readonly record struct TypeSize(string Project, string Type, int Lines, int Parts)
{
    public override string ToString() => $"{Project}: {Type}, {Lines} lines in {Parts} {(Parts == 1 ? "part" : "parts")}";

    /// <summary>The types of a project that no other type encloses. A part's lines go from its first attribute or modifier to its last brace.</summary>
    public static IEnumerable<TypeSize> Of(ProjectSource project) =>
        project.Files.SelectMany(file => file.GetRoot().DescendantNodes(node => node is not BaseTypeDeclarationSyntax))
            .OfType<BaseTypeDeclarationSyntax>()
            .GroupBy(NameOf, (name, parts) => new TypeSize(project.Name, name, parts.Sum(LinesOf), parts.Count()));

    private static string NameOf(BaseTypeDeclarationSyntax type)
    {
        int parameters = (type as TypeDeclarationSyntax)?.TypeParameterList?.Parameters.Count ?? 0;
        string name = parameters == 0 ? type.Identifier.Text : $"{type.Identifier.Text}<{new string(',', parameters - 1)}>";
        // A type that only its file sees may have the name of another.
        return type.Modifiers.Any(modifier => modifier.Text == "file") ? $"{name} of {type.SyntaxTree.FilePath}" : name;
    }

    private static int LinesOf(BaseTypeDeclarationSyntax part)
    {
        FileLinePositionSpan span = part.GetLocation().GetLineSpan();
        return span.EndLinePosition.Line - span.StartLinePosition.Line + 1;
    }
}
