using KvCacheGpu;
using KvCacheGpu.Llama;
using KvCacheGpu.Samples;
using KvCacheGpu.Serving;
using KvCacheGpu.Serving.AspNetCore;
using Microsoft.AspNetCore.Builder;

// A server that OpenAI's clients talk to, with a page that shows its cache.
// Usage: ChatServer --model FOLDER [--urls http://127.0.0.1:5000]
WebApplicationBuilder builder = WebApplication.CreateBuilder(args);
using LlamaModel llama = LlamaModel.Load(builder.Configuration["model"]!);
using var decoder = new LlamaDecoder(llama);
using var cache = new KvCache(llama.Geometry(), new KvCacheOptions { MaxTokens = 16_384, MaxSequenceTokens = 4096, PrefixReuse = true, PageStatistics = true });
await using var scheduler = new KvScheduler(cache, decoder, new KvSchedulerOptions { Tokenizer = llama.Tokenizer });
var model = new KvServedModel(llama.Name, decoder) { Tokenizer = llama.Tokenizer, ChatTemplate = new Lines() };

builder.Services.AddKvServing(model, scheduler, options => options.RequestsPerMinute = 600);
WebApplication app = builder.Build();
app.MapKvServing();
await app.RunAsync();
