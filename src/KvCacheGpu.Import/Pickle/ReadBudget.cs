namespace KvCacheGpu.Import;

/// <summary>The rest of the limits for one file, nested streams included.</summary>
internal sealed class ReadBudget(ImportLimits limits)
{
    /// <summary>The most characters of all paths, and of all names. Objects may share parts, and every path that leads to a part names it again.</summary>
    public const long TextCharacters = 16 << 20;

    private long _pickleBytes;
    private long _opcodes;
    private int _tensors;
    private Int128 _tensorBytes;

    public ImportLimits Limits { get; } = limits;

    /// <summary>Counts an opcode.</summary>
    public void CountOpcode(long offset) => Check("opcodes", ++_opcodes, Limits.Opcodes, offset);

    /// <summary>Counts bytes of a stream, other than payload.</summary>
    public void CountPickle(long bytes, long offset) => Check("pickle bytes", _pickleBytes += bytes, Limits.PickleBytes, offset);

    /// <summary>Counts a tensor that is made, even if it is not used, and the bytes that it would take on its own.</summary>
    public void CountTensor(Int128 bytes, long offset)
    {
        Check("tensors", ++_tensors, Limits.Tensors, offset);
        Check("tensor bytes", _tensorBytes += bytes, Limits.TensorBytes, offset);
    }

    /// <summary>Checks the depth and size of a container; tensors count as often as they occur in it.</summary>
    public void CheckShape(ContainerValue container, long offset)
    {
        Check("depth", container.Depth, Limits.Depth, offset);
        Check("values of one object", container.Weight, Limits.Opcodes, offset);
        Check("tensors", container.Tensors, Limits.Tensors, offset);
        Check("tensor bytes", container.TensorBytes, Limits.TensorBytes, offset);
    }

    /// <summary>Refuses a number beyond a limit.</summary>
    public static void Check(string what, Int128 actual, long limit, long? offset)
    {
        if (actual > limit)
        {
            throw ImportException.Corrupt(what, offset, $"{limit} at most", $"{actual}");
        }
    }
}
