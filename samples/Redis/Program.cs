using KvCacheGpu;
using KvCacheGpu.Samples;

// Two machines share what they have computed through a Redis server. Here both are this process, with a cache and a connection each.
// Usage: RedisTier redis://HOST:PORT
if (args is not [string address])
{
    Console.Error.WriteLine("usage: RedisTier redis://HOST:PORT");
    return 2;
}

int[] prompt = [.. Enumerable.Range(100, 180)];
var run = new KvSequenceOptions { Salt = Guid.NewGuid().ToString() };      // another run's prefixes are not this one's
foreach (string machine in (string[])["first", "second"])
{
    // A slow server is a miss: 50 ms unless the host says otherwise.
    await using var tier = new KvRedisTier(address, new KvRedisTierOptions { Deadline = TimeSpan.FromSeconds(10), TimeToLive = TimeSpan.FromMinutes(1) });
    await tier.PingAsync(TimeSpan.FromSeconds(10));
    using var cache = new KvCache(Model.Shape, new KvCacheOptions { MaxTokens = 4096, PrefixReuse = true, ModelFingerprint = "induction-1", Tiers = [tier] });
    await cache.PrefetchAsync(run, prompt);                 // while the prompt waits for its turn
    using KvSequence chat = cache.CreateSequence(run);
    int known = chat.Reuse(prompt);
    Model.Read(chat, prompt[known..]);
    await cache.BackUpAsync();                              // it goes on by itself; this waits for it
    Console.WriteLine($"{machine}: {known} of {prompt.Length} tokens came from the server");
}

return 0;
