using KvCacheGpu;
using KvCacheGpu.Samples;

// A prompt and an answer: the cache holds the conversation's keys and values, and each new token costs one step.
string[] words = ["the", "cat", "sat", "on", "mat", "."];
int[] prompt = [0, 1, 2, 3, 4, 5, 0];                       // "the cat sat on mat . the"
using var cache = new KvCache(Model.Shape, new KvCacheOptions { MaxTokens = 4096, KeyFormat = PageFormat.I8, ValueFormat = PageFormat.I8 });
using KvSequence chat = cache.CreateSequence();

int next = Model.Read(chat, prompt);                        // all of the prompt in one step
var answer = new List<string>();
while (answer.Count < 5)
{
    answer.Add(words[next]);
    next = Model.Read(chat, next);                          // then one token each
}

Console.WriteLine(string.Join(' ', answer));
Console.WriteLine($"{chat.Length} tokens on {cache.Device.Id}");

// Another answer to the same prompt: take the first off the end. A fork would keep both, and share their pages.
chat.Truncate(prompt.Length);
Console.WriteLine($"{chat.Length} tokens, then again '{words[Model.Read(chat, 1)]}'");
