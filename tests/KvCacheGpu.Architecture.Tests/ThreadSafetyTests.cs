using System.Text.RegularExpressions;
using KvCacheGpu.Architecture.Tests.Sources;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;

namespace KvCacheGpu.Architecture.Tests;

/// <summary>Every public type that has instances says from which threads they may be used, in a sentence with a fixed beginning.</summary>
public partial class ThreadSafetyTests
{
    [Fact]
    public void Every_public_class_and_struct_says_its_thread_safety()
    {
        (string Type, string Documentation)[] types =
        [
            .. from project in Repository.Projects.Where(project => Repository.Named(project).StartsWith("src/", StringComparison.Ordinal) || Repository.Named(project).StartsWith("kernels/", StringComparison.Ordinal))
               let source = ProjectSource.Read(project)
               from file in source.Files
               from type in file.GetRoot().DescendantNodes().OfType<TypeDeclarationSyntax>()
               where IsNamed(type)
               group type by $"{source.Name}: {type.Identifier.Text}" into parts
               select (parts.Key, string.Concat(parts.Select(type => type.GetLeadingTrivia().ToFullString()))),
        ];
        string[] silent = [.. types.Where(type => !Says(type.Documentation)).Select(type => type.Type)];
        Assert.InRange(types.Length, 100, int.MaxValue);
        Assert.True(silent.Length == 0, $"{silent.Length} of {types.Length} do not say \"Thread safety: ...\":\n{string.Join('\n', silent)}");
    }

    [Theory]
    [InlineData("/// <remarks>Thread safety: it never changes.</remarks>", true)]
    [InlineData("/// <summary>\n/// A page. Thread safety: it is used\n/// by one thread at a time.\n/// </summary>", true)]
    [InlineData("/// <remarks>Thread safety: yes.</remarks>", false)]
    [InlineData("/// <remarks>Thread safety: it never changes</remarks>", false)]
    [InlineData("/// <summary>Thread-safe.</summary>", false)]
    public void It_is_a_sentence(string documentation, bool says) => Assert.Equal(says, Says(documentation));

    private static bool Says(string documentation) => Sentence().IsMatch(documentation.Replace("///", string.Empty, StringComparison.Ordinal));

    // A type that a host can name and make or be given. Exceptions are as the runtime has them; static types have no instances.
    private static bool IsNamed(TypeDeclarationSyntax type) =>
        type is ClassDeclarationSyntax or StructDeclarationSyntax or RecordDeclarationSyntax
        && !type.Modifiers.Any(SyntaxKind.StaticKeyword)
        && !type.Identifier.Text.EndsWith("Exception", StringComparison.Ordinal)
        && type.AncestorsAndSelf().OfType<TypeDeclarationSyntax>().All(one => one.Modifiers.Any(SyntaxKind.PublicKeyword));

    // The beginning, at least three words, and a stop.
    [GeneratedRegex(@"Thread safety: (?:[^\s.<]+\s+){2,}[^.]*[^\s.]\.(?:\s|<|$)")]
    private static partial Regex Sentence();
}
