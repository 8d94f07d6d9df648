using System.Buffers.Binary;

namespace KvCacheGpu.Import;

/// <summary>
/// Writes sequences as torch.save does, for torch.load with weights_only: a dict of name -> (K, V), or of name -> [(K, V) of each layer]
/// if there are several layers; tensors are [1, heads, tokens, width].
/// </summary>
/// <remarks>Storages are [tokens][heads][width], the order in which tokens are read; the tensors are views with two axes exchanged, so that no tensor is held in memory whole.</remarks>
public static class TorchWriter
{
    private const string Prefix = "cache";
    private const int ChunkTokens = 256;

    /// <summary>Writes a file.</summary>
    /// <param name="stream">The stream to write to, which must be able to seek.</param>
    /// <param name="geometry">The shape of every sequence.</param>
    /// <param name="type">The elements' type: float16, bfloat16 (both rounded to nearest even) or float32.</param>
    /// <param name="sequences">The sequences, whose names must differ.</param>
    /// <exception cref="ArgumentException">The type is another one, a sequence has no tokens, a name comes twice, or UTF-8 cannot encode a name (half of a surrogate pair).</exception>
    public static void Write(Stream stream, ImportGeometry geometry, ElementType type, IReadOnlyList<TorchSequence> sequences)
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(geometry);
        ArgumentNullException.ThrowIfNull(sequences);
        if (type is not (ElementType.Float16 or ElementType.BFloat16 or ElementType.Float32))
        {
            throw new ArgumentException($"expected float16, bfloat16 or float32, got {type.Name()}", nameof(type));
        }

        if (sequences.Any(s => s.Tokens < 1) || sequences.Select(s => s.Name).Distinct(StringComparer.Ordinal).Count() != sequences.Count)
        {
            throw new ArgumentException("expected names that differ, and at least one token in each", nameof(sequences));
        }

        StoredZipWriter zip = new(stream);
        byte[] pickle = Pickle(geometry, type, sequences);
        zip.Add($"{Prefix}/data.pkl", pickle.Length, write => write(pickle));
        int key = 0;
        foreach (TorchSequence sequence in sequences)
        {
            for (int layer = 0; layer < geometry.Layers; layer++)
            {
                foreach (bool isValue in new[] { false, true })
                {
                    long bytes = (long)sequence.Tokens * geometry.Heads * (isValue ? geometry.ValueWidth : geometry.KeyWidth) * type.Bytes();
                    int current = layer;
                    zip.Add($"{Prefix}/data/{key++}", bytes, write => WriteRows(write, geometry, type, sequence, current, isValue));
                }
            }
        }

        zip.Add($"{Prefix}/version", 2, write => write("3\n"u8));
        zip.Finish();
    }

    private static byte[] Pickle(ImportGeometry geometry, ElementType type, IReadOnlyList<TorchSequence> sequences)
    {
        PickleOutput output = new();
        output.Write(Opcode.EMPTY_DICT);
        output.Write(Opcode.MARK);
        int key = 0;
        foreach (TorchSequence sequence in sequences)
        {
            output.Text(sequence.Name);
            if (geometry.Layers > 1)
            {
                output.Write(Opcode.EMPTY_LIST);
                output.Write(Opcode.MARK);
            }

            for (int layer = 0; layer < geometry.Layers; layer++)
            {
                Tensor(output, key++, type, sequence.Tokens, geometry.Heads, geometry.KeyWidth);
                Tensor(output, key++, type, sequence.Tokens, geometry.Heads, geometry.ValueWidth);
                output.Write(Opcode.TUPLE2);
            }

            if (geometry.Layers > 1)
            {
                output.Write(Opcode.APPENDS);
            }
        }

        output.Write(Opcode.SETITEMS);
        return output.Stop();
    }

    private static void Tensor(PickleOutput output, int key, ElementType type, long tokens, long heads, long width)
    {
        string storage = type switch { ElementType.Float16 => "HalfStorage", ElementType.BFloat16 => "BFloat16Storage", _ => "FloatStorage" };
        long elements = tokens * heads * width;
        output.Tensor(storage, key, elements, [1, heads, tokens, width], [elements, width, heads * width, 1]);
    }

    private static void WriteRows(Action<ReadOnlySpan<byte>> write, ImportGeometry geometry, ElementType type, TorchSequence sequence, int layer, bool isValue)
    {
        int most = Math.Min(ChunkTokens, sequence.Tokens);
        float[] keys = new float[most * geometry.Heads * geometry.KeyWidth];
        float[] values = new float[most * geometry.Heads * geometry.ValueWidth];
        byte[] bytes = new byte[(isValue ? values : keys).Length * type.Bytes()];
        for (int first = 0; first < sequence.Tokens; first += most)
        {
            int tokens = Math.Min(most, sequence.Tokens - first);
            Span<float> k = keys.AsSpan(0, tokens * geometry.Heads * geometry.KeyWidth);
            Span<float> v = values.AsSpan(0, tokens * geometry.Heads * geometry.ValueWidth);
            sequence.Read(layer, first, tokens, k, v);
            Span<float> rows = isValue ? v : k;
            Encode(type, rows, bytes);
            write(bytes.AsSpan(0, rows.Length * type.Bytes()));
        }
    }

    private static void Encode(ElementType type, ReadOnlySpan<float> rows, Span<byte> bytes)
    {
        for (int i = 0; i < rows.Length; i++)
        {
            switch (type)
            {
                case ElementType.Float16:
                    BinaryPrimitives.WriteHalfLittleEndian(bytes[(2 * i)..], (Half)rows[i]);
                    break;
                case ElementType.BFloat16:
                    BinaryPrimitives.WriteUInt16LittleEndian(bytes[(2 * i)..], ToBFloat16(rows[i]));
                    break;
                default:
                    BinaryPrimitives.WriteSingleLittleEndian(bytes[(4 * i)..], rows[i]);
                    break;
            }
        }
    }

    private static ushort ToBFloat16(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);

        // Rounding would turn some NaN patterns into infinity, so a NaN keeps its top bits and is made quiet.
        return float.IsNaN(value) ? (ushort)((bits >> 16) | 0x40) : (ushort)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    }
}

/// <summary>A sequence to write.</summary>
/// <remarks>Thread safety: it never changes, as long as nobody changes the memory that it refers to.</remarks>
/// <param name="Name">Its key in the file's dict.</param>
/// <param name="Tokens">Number of tokens.</param>
/// <param name="Read">Gives the keys and values of some tokens of a layer.</param>
public sealed record TorchSequence(string Name, int Tokens, TorchLayerReader Read);

/// <summary>Gives the keys and values of some tokens of a layer.</summary>
/// <param name="layer">Layer.</param>
/// <param name="firstToken">First token.</param>
/// <param name="tokens">Number of tokens.</param>
/// <param name="keys">Receives <c>[tokens][heads][key width]</c>.</param>
/// <param name="values">Receives <c>[tokens][heads][value width]</c>.</param>
public delegate void TorchLayerReader(int layer, int firstToken, int tokens, Span<float> keys, Span<float> values);
