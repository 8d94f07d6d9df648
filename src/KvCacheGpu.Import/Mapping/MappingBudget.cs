namespace KvCacheGpu.Import;

/// <summary>
/// The pieces and names that one mapping may still make. They are counted before they are made, because a tensor that is named often, or has long
/// outer axes, could be cut into more pieces than its file has bytes.
/// </summary>
internal sealed class MappingBudget(long mostPieces)
{
    private Int128 _layers;
    private Int128 _rows;
    private Int128 _characters;

    /// <summary>Counts tensors that are split by layers.</summary>
    public void CountLayers(Int128 pieces) => ReadBudget.Check("layers of tensors", _layers += pieces, mostPieces, null);

    /// <summary>Counts the tensors that are made when each row of a batch becomes a sequence of its own.</summary>
    public void CountRows(Int128 pieces) => ReadBudget.Check("rows of tensors", _rows += pieces, mostPieces, null);

    /// <summary>Counts the characters of paths and names.</summary>
    public void CountText(Int128 characters) => ReadBudget.Check("names", _characters += characters, ReadBudget.TextCharacters, null);
}
