using KvCacheGpu;
using KvCacheGpu.Llama;
using KvCacheGpu.Serving;

using LlamaModel model = LlamaModel.Load(args is [string folder] ? folder : Path.Combine(AppContext.BaseDirectory, "demo-model"));
using LlamaDecoder decoder = new(model);
using KvCache cache = new(model.Geometry(), new KvCacheOptions { MaxTokens = 4096, MaxSequences = 16, PrefixReuse = true });
await using KvScheduler scheduler = new(cache, decoder, new KvSchedulerOptions { Tokenizer = model.Tokenizer, DraftTokens = 4 });

// All at once: the scheduler puts them into the same steps.
string[] prompts = ["In the beginning", "And he said unto them", "Blessed are they"];
KvGeneration[] generations = [.. prompts.Select(prompt => scheduler.Submit(new KvRequest { Prompt = model.Tokenizer!.Encode(prompt), MaxNewTokens = 16 }))];

// The first as its words come, the others when they are whole.
Console.Write(prompts[0]);
await foreach (KvPiece piece in generations[0].ReadAllAsync())
{
    Console.Write(piece.Text);
}

Console.WriteLine();
for (int i = 1; i < prompts.Length; i++)
{
    KvAnswer answer = (await generations[i].CompleteAsync())[0];
    Console.WriteLine(prompts[i] + answer.Text);
}

KvServingStatus status = await scheduler.GetStatusAsync();
Console.WriteLine($"{status.Requests} requests, {status.NewTokens} tokens, fewer steps than tokens: {status.Steps < status.NewTokens}");
