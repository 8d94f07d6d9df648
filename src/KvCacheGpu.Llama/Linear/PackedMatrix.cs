using System.Runtime.ExceptionServices;

namespace KvCacheGpu.Llama;

/// <summary>
/// Weights <c>[rows][columns]</c>, stored in the order in which products read them: panels of 32 rows, interleaved by column, in the type of the file.
/// Several tensors with the same input are stacked to one matrix, so that one launch serves them.
/// </summary>
/// <remarks>
/// <code>
/// panel p:  [column 0: rows 32p .. 32p+31][column 1: ...]  ...  [column C-1]     rows past the last are zero
/// </code>
/// </remarks>
internal sealed unsafe class PackedMatrix : IDisposable
{
    private readonly AlignedMemory _memory;

    private PackedMatrix(int rows, int columns, WeightType type)
    {
        (Rows, Columns, Type) = (rows, columns, type);
        _memory = new AlignedMemory(Panels * PanelBytes);
    }

    /// <summary>Number of outputs.</summary>
    public int Rows { get; }

    /// <summary>Number of inputs.</summary>
    public int Columns { get; }

    /// <summary>Type of the stored weights.</summary>
    public WeightType Type { get; }

    /// <summary>Number of panels; the last one is filled up with zeros.</summary>
    public int Panels => (Rows + PanelKernels.Rows - 1) / PanelKernels.Rows;

    /// <summary>Number of outputs that a product writes, those of the added zeros included.</summary>
    public int PaddedRows => Panels * PanelKernels.Rows;

    /// <summary>Bytes of the weights.</summary>
    public long Bytes => _memory.Bytes;

    private int ElementBytes => Type == WeightType.F32 ? 4 : 2;

    private long PanelBytes => (long)Columns * PanelKernels.Rows * ElementBytes;

    /// <summary>Reads matrices of equal width and stacks them.</summary>
    /// <exception cref="LlamaFormatException">A tensor is missing, has another shape, or holds a NaN or an infinity.</exception>
    public static PackedMatrix Load(WeightFiles files, int columns, params ReadOnlySpan<(string Name, int Rows)> tensors)
    {
        (SafetensorsFile File, TensorEntry Entry)[] stored = new (SafetensorsFile, TensorEntry)[tensors.Length];
        int rows = 0;
        for (int i = 0; i < stored.Length; i++)
        {
            stored[i] = files.Require(tensors[i].Name, tensors[i].Rows, columns);
            rows = checked(rows + tensors[i].Rows);
        }

        // A matrix has one type. If the tensors differ, it is binary32, which holds the others exactly.
        WeightType type = Array.TrueForAll(stored, s => s.Entry.WeightType == stored[0].Entry.WeightType) ? stored[0].Entry.WeightType!.Value : WeightType.F32;
        PackedMatrix matrix = new(rows, columns, type);
        try
        {
            int first = 0;
            foreach ((SafetensorsFile file, TensorEntry entry) in stored)
            {
                matrix.Fill(file, entry, first);
                first += (int)entry.Shape[0];
            }

            return matrix;
        }
        catch
        {
            matrix.Dispose();
            throw;
        }
    }

    /// <summary>The first weight of a panel.</summary>
    public byte* Panel(int index) => _memory.Pointer + (index * PanelBytes);

    /// <summary>Reads one row as binary32: a token's embedding, if the output layer is tied to it.</summary>
    public void ReadRow(int row, Span<float> target)
    {
        byte* source = Panel(row / PanelKernels.Rows) + (row % PanelKernels.Rows * ElementBytes);
        int stride = PanelKernels.Rows * ElementBytes;
        for (int k = 0; k < target.Length; k++, source += stride)
        {
            target[k] = Type switch
            {
                WeightType.F16 => F16Bits.Load(source),
                WeightType.BF16 => BF16Bits.Load(source),
                _ => F32Bits.Load(source),
            };
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _memory.Dispose();

    private void Fill(SafetensorsFile file, TensorEntry entry, int firstRow)
    {
        const int BlockRows = 64;
        int rows = (int)entry.Shape[0];
        WeightType source = entry.WeightType!.Value;
        int rowBytes = Columns * (source == WeightType.F32 ? 4 : 2);
        void FillBlock(int block)
        {
            int count = Math.Min(BlockRows, rows - (block * BlockRows));
            byte[] bytes = GC.AllocateUninitializedArray<byte>(count * rowBytes);
            file.Read(entry, (long)block * BlockRows * rowBytes, bytes);
            WeightReader.ThrowIfNotFinite(file.Name, entry, bytes);
            fixed (byte* first = bytes)
            {
                for (int r = 0; r < count; r++)
                {
                    PlaceRow(first + ((nint)r * rowBytes), source, firstRow + (block * BlockRows) + r);
                }
            }
        }

        try
        {
            Parallel.For(0, (rows + BlockRows - 1) / BlockRows, FillBlock);
        }
        catch (AggregateException errors)
        {
            ExceptionDispatchInfo.Throw(errors.InnerExceptions[0]);
        }
    }

    private void PlaceRow(byte* source, WeightType sourceType, int row)
    {
        byte* target = Panel(row / PanelKernels.Rows) + (row % PanelKernels.Rows * ElementBytes);
        int stride = PanelKernels.Rows * ElementBytes;
        for (int k = 0; k < Columns; k++, target += stride)
        {
            switch (sourceType)
            {
                case WeightType.F32:
                    *(uint*)target = ((uint*)source)[k];
                    break;
                case var _ when Type == sourceType:
                    *(ushort*)target = ((ushort*)source)[k];
                    break;
                case WeightType.F16:
                    *(float*)target = F16Bits.Load(source + (2 * k));
                    break;
                default:
                    *(float*)target = BF16Bits.Load(source + (2 * k));
                    break;
            }
        }
    }
}
