using KvCacheGpu.Architecture.Tests.Sources;

namespace KvCacheGpu.Architecture.Tests;

/// <summary>The rules see what they are to see: sources made up with each fault.</summary>
public class MadeUpTests
{
    private static readonly (string, string)[] Circle =
    [
        ("Memory/PagePool.cs", "namespace M; class PagePool\n{\n    object Take() => Steps.StepMemory.Make();\n}"),
        ("Steps/StepMemory.cs", "namespace M.Steps; class StepMemory\n{\n    public static StepMemory Make() => new();\n    // A PagePool in a comment is no use.\n}"),
        ("Steps/Step.cs", "namespace M.Steps; class Step { int Pages(StepMemory memory) { var pool = memory.Pool(); return pool.Length; } }"),
        ("Steps/Extensions.cs", "namespace M.Steps; static class Extensions { public static M.PagePool[] Pool(this StepMemory memory) => []; }"),
    ];

    [Fact]
    public void A_wrong_arrow_is_named_with_folders_types_and_place()
    {
        IReadOnlyList<FolderArrow> arrows = FolderArrow.Of(ProjectSource.MadeUp(Circle));
        FolderArrow wrong = Assert.Single(new ArrowTable(["Memory"], ["Steps"]).Wrong(arrows));
        Assert.Equal("Memory -> Steps: PagePool uses StepMemory (Memory/PagePool.cs:3)", wrong.ToString());
        Assert.Equal(["Steps -> Memory: Extensions uses PagePool", "Steps -> Memory: Step uses PagePool"], arrows.Where(arrow => arrow.From == "Steps").Select(arrow => arrow.Name));
    }

    [Fact]
    public void A_folder_that_the_table_does_not_know_is_wrong() =>
        Assert.Equal(3, new ArrowTable(["Steps"], [""]).Wrong(FolderArrow.Of(ProjectSource.MadeUp(Circle))).Count());

    [Fact]
    public void Folders_of_one_rank_do_not_use_each_other() =>
        Assert.Equal(3, new ArrowTable(["Memory", "Steps"]).Wrong(FolderArrow.Of(ProjectSource.MadeUp(Circle))).Count());

    [Fact]
    public void A_circle_of_three_folders_is_found_and_one_beside_it_is_not()
    {
        ProjectSource project = ProjectSource.MadeUp(
            ("A/A.cs", "class A { B b; }"), ("B/B.cs", "class B { C c() => null; }"), ("C/Deep/C.cs", "class C { static object o = new A(); }"),
            ("D/D.cs", "class D : A; class Root2 { Root r; }"), ("Root.cs", "class Root { D d; }"));
        Assert.Equal(["A", "B", "C"], Assert.Single(FolderCycles.Of(FolderArrow.Of(project))));
    }

    [Fact]
    public void Folders_in_a_line_are_no_circle() =>
        Assert.Empty(FolderCycles.Of(FolderArrow.Of(ProjectSource.MadeUp(("A/A.cs", "class A { B b; }"), ("B/B.cs", "class B { }")))));

    [Fact]
    public void A_types_lines_are_those_of_all_its_parts_and_of_the_types_inside()
    {
        static string Part(int lines) => $"partial class Large<T>\n{{\n{new string('\n', lines - 3)}}}\n";
        ProjectSource project = ProjectSource.MadeUp(
            ("Large.cs", Part(250)), ("Large.More.cs", Part(251)), ("Fits.cs", "class Large\n{\n    class Inside\n    {\n    }\n}\nenum E { }"));
        TypeSize[] types = [.. TypeSize.Of(project)];
        Assert.Equal(["MadeUp: Large<>, 501 lines in 2 parts", "MadeUp: Large, 6 lines in 1 part", "MadeUp: E, 1 lines in 1 part"], types.Select(type => type.ToString()));
        Assert.Equal("Large<>", Assert.Single(SizeTests.TooLarge(types)).Type);
        Assert.Empty(SizeTests.TooLarge(TypeSize.Of(ProjectSource.MadeUp(("Large.cs", Part(250)), ("Large.More.cs", Part(250))))));
    }

    [Fact]
    public void A_list_of_known_violations_neither_misses_one_nor_keeps_one_that_is_gone()
    {
        Assert.Empty(KnownList.Differences(["a"], [("a", "a, here")]));
        Assert.Contains("b, here", KnownList.Differences(["a"], [("a", "a, here"), ("b", "b, here")]), StringComparison.Ordinal);
        Assert.EndsWith("delete these lines:" + Environment.NewLine + "a", KnownList.Differences(["a"], []), StringComparison.Ordinal);
    }
}
