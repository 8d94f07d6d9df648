using KvCacheGpu.Evaluation;
using KvCacheGpu.Llama;

namespace KvCacheGpu.Cli;

/// <summary>The demo's document, and the held-out text that follows it.</summary>
internal sealed class DemoText
{
    /// <summary>Number of tokens of the document, facts included; a multiple of the tokens in a page.</summary>
    public const int DocumentTokens = 1_920;

    /// <summary>Number of facts in it, each of which is asked once.</summary>
    public const int FactCount = 32;

    /// <summary>Number of tokens after it, which are written one by one.</summary>
    public const int ContinuationTokens = 256;

    private DemoText(DemoFacts facts, int[] continuation)
    {
        (Facts, Continuation) = (facts.Facts, continuation);
        Document = [.. facts.Document];
    }

    /// <summary>The document's tokens.</summary>
    public int[] Document { get; }

    /// <summary>The facts.</summary>
    public IReadOnlyList<DemoFact> Facts { get; }

    /// <summary>The text that follows, without facts.</summary>
    public int[] Continuation { get; }

    /// <summary>Makes the document, which is always the same.</summary>
    public static DemoText Create(LlamaTokenizer tokenizer, string text)
    {
        int[] all = tokenizer.Encode(text, start: false);
        for (int seed = 0; ; seed++)
        {
            DemoFacts facts = DemoFacts.Create(tokenizer, text, DocumentTokens, FactCount, seed);
            int[] passage = Passage(tokenizer, facts);
            int end = all.AsSpan().IndexOf(passage) + passage.Length;
            if (end + ContinuationTokens <= all.Length)
            {
                return new DemoText(facts, all[end..(end + ContinuationTokens)]);
            }
        }
    }

    // The document without its first token and its facts: one passage of the text.
    private static int[] Passage(LlamaTokenizer tokenizer, DemoFacts facts)
    {
        int before = tokenizer.Encode(" Now the word", start: false).Length;
        int after = 1 + 1 + tokenizer.Encode(".", start: false).Length;
        bool[] isFact = new bool[facts.Document.Count];
        isFact[0] = true;
        foreach (DemoFact fact in facts.Facts)
        {
            isFact.AsSpan(fact.Position - before, before + after).Fill(true);
        }

        return [.. facts.Document.Where((_, i) => !isFact[i])];
    }
}
