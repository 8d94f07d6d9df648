namespace KvCacheGpu.Tests;

/// <summary>A model whose next token depends on every bit of the attention output, so that the least difference changes the text.</summary>
internal static class ToyModel
{
    public const int Vocabulary = 50;

    /// <summary>Reads tokens in steps of a chunk and returns the next one.</summary>
    public static int Read(this KvSequence sequence, ReadOnlySpan<int> ids, int chunk = 16)
    {
        KvGeometry geometry = sequence.Cache.Geometry;
        int width = geometry.QueryHeads * geometry.ValueWidth;
        for (int first = 0; first < ids.Length; first += chunk)
        {
            ReadOnlySpan<int> part = ids[first..Math.Min(ids.Length, first + chunk)];
            var output = new float[part.Length * width];
            uint sum = 0;
            using KvStep step = sequence.Begin(part);
            for (int layer = 0; layer < geometry.Layers; layer++)
            {
                step.Append(layer, TokenContent.Keys(geometry, layer, part), TokenContent.Values(geometry, layer, part));
                step.Attend(layer, TokenContent.Queries(geometry, layer, part), output);
                foreach (float value in output.AsSpan((part.Length - 1) * width))
                {
                    sum = (sum * 31) + BitConverter.SingleToUInt32Bits(value);
                }
            }

            step.Commit();
            if (first + chunk >= ids.Length)
            {
                return (int)(sum % Vocabulary);
            }
        }

        throw new ArgumentException("expected a token", nameof(ids));
    }

    /// <summary>Reads what is left of a prompt and goes on by itself.</summary>
    public static int[] Generate(this KvSequence sequence, int[] prompt, int tokens, int chunk = 16)
    {
        var text = new int[tokens];
        int next = sequence.Read(prompt.AsSpan(sequence.Length), chunk);
        for (int i = 0; i < tokens; i++)
        {
            text[i] = next;
            next = sequence.Read([next]);
        }

        return text;
    }
}
