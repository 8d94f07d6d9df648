using KvCacheGpu;
using KvCacheGpu.Samples;

// A conversation that outlives its process: saved to a folder, and loaded bit for bit.
// Usage: SavedChat FOLDER: each run goes on where the run before has ended.
if (args is not [string folder])
{
    Console.Error.WriteLine("usage: SavedChat FOLDER");
    return 2;
}

var store = new SnapshotStore(folder);                      // SnapshotOptions has encryption
var name = new SnapshotName("friday", "acme");
using var cache = new KvCache(Model.Shape, new KvCacheOptions { MaxTokens = 4096, KeyFormat = PageFormat.I8, ValueFormat = PageFormat.I8, ModelFingerprint = "induction-1" });
KvSequence chat;
try
{
    chat = (await cache.LoadAsync(store, name)).Sequences[0];       // every byte is verified before anything is there
    Console.WriteLine($"loaded {chat.Length} tokens; after 12 comes {Model.Read(chat, 12)}");
}
catch (KvSnapshotNotFoundException)
{
    chat = cache.CreateSequence(new KvSequenceOptions { Tenant = name.Tenant });
    Model.Read(chat, 11, 12, 13);
    Console.WriteLine("a new conversation");
}

using (chat)
{
    SnapshotInfo saved = await cache.SaveAsync(store, name, [chat]);      // replaces the one before in one step, power loss or not
    Console.WriteLine($"saved {saved.Tokens} tokens");
}

return 0;
