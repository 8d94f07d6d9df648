using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;

namespace KvCacheGpu.Architecture.Tests.Sources;

/// <summary>A type of one folder uses a type of another, first seen at a place in the source.</summary>
internal readonly record struct FolderArrow(string From, string To, string User, string Used, string Place)
{
    /// <summary>The arrow without its place, which moves with every line above it.</summary>
    public string Name => $"{Shown(From)} -> {Shown(To)}: {User} uses {Used}";

    public override string ToString() => $"{Name} ({Place})";

    /// <summary>A folder's name in messages.</summary>
    public static string Shown(string folder) => folder.Length == 0 ? "(root)" : folder;

    /// <summary>
    /// All arrows between the folders of a project, one for each pair of types. A use is a name in the source that the compiler binds to a type of the
    /// project or to a member of one, including a type that <c>var</c> stands for; comments do not count. A type lies where its file lies.
    /// </summary>
    public static IReadOnlyList<FolderArrow> Of(ProjectSource project) =>
        [.. project.Files.AsParallel().AsOrdered().SelectMany(file => In(project, file)).AsEnumerable()
            .DistinctBy(arrow => arrow.Name).OrderBy(arrow => arrow.Name, StringComparer.Ordinal)];

    private static List<FolderArrow> In(ProjectSource project, SyntaxTree file)
    {
        SemanticModel model = project.Compilation.GetSemanticModel(file);
        string from = ProjectSource.FolderOf(file.FilePath);
        var arrows = new List<FolderArrow>();
        foreach (SyntaxNode node in file.GetRoot().DescendantNodes())
        {
            if (node is not (SimpleNameSyntax or BaseObjectCreationExpressionSyntax or ConstructorInitializerSyntax) || node.FirstAncestorOrSelf<UsingDirectiveSyntax>() is not null)
            {
                continue;
            }

            SymbolInfo bound = model.GetSymbolInfo(node);
            foreach (ISymbol used in (bound.Symbol is { } one ? [one] : bound.CandidateSymbols).SelectMany(Parts))
            {
                if (PlaceOf(used) is { } place && ProjectSource.FolderOf(place) is var to && to != from)
                {
                    arrows.Add(new FolderArrow(from, to, UserOf(node), Outermost(used).Name, $"{file.FilePath}:{node.GetLocation().GetLineSpan().StartLinePosition.Line + 1}"));
                }
            }
        }

        return arrows;
    }

    // The types and members that a symbol stands for: what arrays, pointers and type arguments are made of.
    private static IEnumerable<ISymbol> Parts(ISymbol symbol) => symbol switch
    {
        IArrayTypeSymbol array => Parts(array.ElementType),
        IPointerTypeSymbol pointer => Parts(pointer.PointedAtType),
        INamedTypeSymbol { TypeArguments: { Length: > 0 } arguments } type => [type.OriginalDefinition, .. arguments.SelectMany(Parts)],
        INamedTypeSymbol => [symbol],
        IMethodSymbol method => [(method.ReducedFrom ?? method).OriginalDefinition],
        IPropertySymbol or IFieldSymbol or IEventSymbol => [symbol.OriginalDefinition],
        _ => [],
    };

    // The file that declares a symbol. A member lies in its own file; a type with several parts lies in the one that is nearest to the root.
    private static string? PlaceOf(ISymbol symbol)
    {
        if (symbol is not INamedTypeSymbol && (symbol.IsImplicitlyDeclared || symbol.DeclaringSyntaxReferences.IsEmpty))
        {
            symbol = symbol.ContainingType;
        }

        return symbol?.DeclaringSyntaxReferences.Select(part => part.SyntaxTree.FilePath)
            .OrderBy(path => path.Count(c => c == '/')).ThenBy(path => path, StringComparer.Ordinal).FirstOrDefault();
    }

    private static INamedTypeSymbol Outermost(ISymbol symbol)
    {
        INamedTypeSymbol type = symbol as INamedTypeSymbol ?? symbol.ContainingType;
        return type.ContainingType is null ? type : Outermost(type.ContainingType);
    }

    private static string UserOf(SyntaxNode node) =>
        node.AncestorsAndSelf().LastOrDefault(n => n is BaseTypeDeclarationSyntax or DelegateDeclarationSyntax) switch
        {
            BaseTypeDeclarationSyntax type => type.Identifier.Text,
            DelegateDeclarationSyntax type => type.Identifier.Text,
            _ => "(file)",
        };
}
