using KvCacheGpu;
using KvCacheGpu.Samples;

// The quick start as a program of its own, compiled ahead of time: it starts in milliseconds and needs no .NET beside it. It has the CPU alone, which "auto" takes:
// kernels for a GPU are compiled while a program runs.
using var cache = new KvCache(Model.Shape, new KvCacheOptions { MaxTokens = 4096, KeyFormat = PageFormat.I8, ValueFormat = PageFormat.I8 });
using KvSequence chat = cache.CreateSequence();
Console.WriteLine($"after 5 6 7 5 comes {Model.Read(chat, 5, 6, 7, 5)}");

// A snapshot, and the same conversation from it.
string folder = Directory.CreateTempSubdirectory("kvcache-").FullName;
var store = new SnapshotStore(Path.Combine(folder, "store"));
SnapshotInfo saved = await cache.SaveAsync(store, "chat");
KvRestored restored = await cache.LoadAsync(store, "chat");
Console.WriteLine($"saved {saved.Tokens} tokens, after 6 comes {Model.Read(restored.Sequences.Single(), 6)}");
Directory.Delete(folder, recursive: true);

// The device's name says which instructions attention uses, and Reason why there are not more.
Console.WriteLine($"{cache.Device.Id}: {cache.Device.Name}{(cache.Device.Reason is { Length: > 0 } reason ? $", {reason}" : string.Empty)}");
