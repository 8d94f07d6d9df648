namespace KvCacheGpu.Architecture.Tests.Sources;

/// <summary>
/// Which folders of a project may use which, lowest first. Folders of one rank do not use each other; the project's own folder is "" and has a rank too.
/// </summary>
internal sealed class ArrowTable(params string[][] ranks)
{
    /// <summary>The arrows that the table does not allow: those that point to a folder of the same or a higher rank, and those of folders that it does not know.</summary>
    public IEnumerable<FolderArrow> Wrong(IEnumerable<FolderArrow> arrows) => arrows.Where(arrow => RankOf(arrow.From) is not { } from || RankOf(arrow.To) is not { } to || to >= from);

    private int? RankOf(string folder) => Array.FindIndex(ranks, rank => rank.Contains(folder)) is >= 0 and int rank ? rank : null;
}
