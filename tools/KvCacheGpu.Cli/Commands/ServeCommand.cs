using System.CommandLine;
using KvCacheGpu.Serving.AspNetCore;

namespace KvCacheGpu.Cli;

/// <summary><c>kvcache serve</c>: a model behind OpenAI's endpoints, with a page that shows its cache.</summary>
internal static class ServeCommand
{
    private const string Loopback = "http://127.0.0.1:5080";
    private const int UsualDrain = 25;

    /// <summary>Makes the command.</summary>
    public static Command Create(Terminal terminal)
    {
        Option<string?> model = Choice.Text("--model", "DIR", "A Llama model in Hugging Face layout. Default: the bundled demo model.");
        Option<string?> urls = Choice.Text("--urls", "URL;URL", $"Where to listen; port 0 takes a free one. Default: {Loopback}.");
        Option<string?> keys = Choice.Text("--api-keys", "FILE", "A file { \"key\": \"tenant\", ... }: clients send a key, and tenants see nothing of each other. Default: none; all clients are one.");
        Option<bool> anonymous = new("--allow-anonymous") { Description = "Listen beyond this machine without --api-keys: whoever reaches the port may use the model." };
        Option<int?> rate = Choice.Number("--requests-per-minute", "Requests of a tenant in a minute. Default: no limit.", 1);
        Option<int?> deadline = Choice.Number("--deadline", "Seconds within which an answer must have ended. Default: no limit.", 1);
        Option<int?> drain = Choice.Number("--drain", $"Seconds that answers may go on once the server is told to stop (SIGTERM, Ctrl+C). Default: {UsualDrain}.", 0);
        ServeCache cache = new();
        Command command = new("serve", "Serve a model over HTTP as OpenAI does, with /health, /metrics, and a live page at /.") { model, urls, keys, anonymous, rate, deadline, drain };
        cache.AddTo(command);
        command.SetAction(parsed =>
        {
            // Settings are checked first, because a model may take minutes to load.
            ServeAddresses addresses = ServeAddresses.Of(parsed.GetValue(urls) ?? Loopback);
            KvApiKeys? own = parsed.GetValue(keys) is { } file ? ReadKeys(file) : null;
            if (own is null && !addresses.AreLoopback && !parsed.GetValue(anonymous))
            {
                throw new UsageException(urls.Name, $"addresses of this machine alone, or {keys.Name}, or {anonymous.Name}", addresses.ToString());
            }

            using ServedCache served = cache.Open(parsed, parsed.GetValue(model));
            ServeHost host = new(served, addresses, terminal);
            host.Run(options =>
            {
                (options.ApiKeys, options.RequestsPerMinute) = (own, parsed.GetValue(rate));
                options.Deadline = parsed.GetValue(deadline) is { } seconds ? TimeSpan.FromSeconds(seconds) : null;
                options.DrainTime = TimeSpan.FromSeconds(parsed.GetValue(drain) ?? UsualDrain);
            });
            return CommandLine.Done;
        });
        return command;
    }

    private static KvApiKeys ReadKeys(string file)
    {
        try
        {
            return KvApiKeys.Load(file);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw new UsageException("--api-keys", "a file that can be read", e.Message, "E002");
        }
        catch (InvalidDataException)
        {
            // What it holds is a secret, also where it is wrong.
            throw new UsageException("--api-keys", "a file { \"key\": \"tenant\", ... } with at least one key, none empty and none twice", "another");
        }
    }
}
