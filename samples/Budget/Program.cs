using KvCacheGpu;
using KvCacheGpu.Samples;

// A text longer than the budget: pages that matter less are written anew with fewer bits, and the fact at its begin is still known at its end.
var options = new KvCacheOptions
{
    MaxTokens = 8192,
    MemoryBudgetPercent = 40,                               // of the bytes that F16 takes for MaxTokens without pages
    KeyFormat = PageFormat.I8,
    ValueFormat = PageFormat.I8,
    DemotionFormats = [new(PageFormat.T4, PageFormat.V4), new(PageFormat.T2, PageFormat.V2)],
    Policy = new AdaptivePolicy { SinkTokens = 16, WindowTokens = 256 },
};
KvCacheBytes bytes = KvCache.BytesFor(Model.Shape, options);                  // known before anything is allocated
Console.WriteLine($"{bytes.BudgetBytes} bytes, of at least {bytes.MinimumBytes}");
using var cache = new KvCache(Model.Shape, options);
using KvSequence text = cache.CreateSequence();

Model.Read(text, 7, 13);                                    // the fact: 13 follows 7
var random = new Random(1);
while (text.Length < options.MaxTokens - 64)
{
    Model.Read(text, [.. Enumerable.Range(0, 64).Select(_ => random.Next(100, Model.Vocabulary))]);
}

Console.WriteLine($"{text.Length} tokens, within the budget: {cache.AllocatedBytes <= cache.BudgetBytes}");
Console.WriteLine($"What follows 7? {Model.Read(text, 7)}");
