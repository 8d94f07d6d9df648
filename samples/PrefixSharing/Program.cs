using KvCacheGpu;
using KvCacheGpu.Samples;

// Many conversations begin with the same instructions: they are computed once for each tenant, and their pages are there once.
int[] instructions = [.. Enumerable.Range(100, 160)];
using var cache = new KvCache(Model.Shape, new KvCacheOptions { MaxTokens = 4096, PrefixReuse = true });

Console.WriteLine($"first of acme: {Ask("acme", 1)} tokens known");
Console.WriteLine($"second of acme: {Ask("acme", 2)} tokens known");
Console.WriteLine($"first of globex: {Ask("globex", 1)} tokens known");     // tenants share nothing

// Two answers to one question: a fork shares every page of its parent, and from then on each goes its own way.
using KvSequence one = cache.CreateSequence();
Model.Read(one, instructions);
using KvSequence two = one.Fork();
Model.Read(one, 1);
Model.Read(two, 2, 3);
Console.WriteLine($"forks: {one.Length} and {two.Length} tokens");

int Ask(string tenant, int question)
{
    int[] prompt = [.. instructions, .. Enumerable.Repeat(question, 20)];
    using KvSequence chat = cache.CreateSequence(new KvSequenceOptions { Tenant = tenant });
    int known = chat.Reuse(prompt);                         // the longest prefix that is there; it stays when its sequences are gone
    Model.Read(chat, prompt[known..]);                      // the model computes the rest
    return known;
}
