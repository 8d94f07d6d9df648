using System.Diagnostics;
using System.Globalization;
using System.Text;
using StackExchange.Redis;

namespace KvCacheGpu.Benchmarks;

/// <summary>
/// Blocks of 1 MiB to a Redis server and back through the remote tier, beside what redis-benchmark moves with the same server, in turns in the same run. Also one MGET for many
/// blocks, which the tier does not use.
/// </summary>
internal static class RedisRates
{
    private const int Rounds = 5;
    private const int Block = 1 << 20;
    private const int Count = 128;

    private static readonly (string, int, bool)[] Windows =
    [
        ("1 MiB at once", 1, false), ("8 MiB at once", 8, false), ("64 MiB at once", 64, false), ("8 MiB at once, AES-256-GCM", 8, true),
    ];

    public static int Run(string[] options)
    {
        if (options is not [string address] || !Uri.TryCreate(address, UriKind.Absolute, out Uri? uri))
        {
            Console.Error.WriteLine("usage: redis redis://HOST:PORT     (a server with 512 MiB for this alone)");
            return 2;
        }

        byte[] blocks = new byte[Count * Block], room = new byte[Count * Block];
        new Random(1).NextBytes(blocks);
        BlockHash[] keys = [.. Enumerable.Range(0, Count).Select(i => BlockHash.Of(Encoding.UTF8.GetBytes($"{i}")))];
        using ConnectionMultiplexer connection = ConnectionMultiplexer.Connect($"{uri.Authority},asyncTimeout=60000");
        Dictionary<string, List<double>> rates = [];
        for (int round = 0; round < Rounds; round++)
        {
            foreach ((string name, int mebibytes, bool isSecret) in Windows)
            {
                Delete("kvcache:*");
                using KvRedisTier tier = new(connection, new KvRedisTierOptions
                {
                    Deadline = TimeSpan.FromMinutes(1),
                    MostBytesAtOnce = mebibytes << 20,
                    EncryptionKey = isSecret ? new byte[KvRedisTierOptions.EncryptionKeyBytes] : default(ReadOnlyMemory<byte>?),
                });
                Note($"write, {name}", Timed(() => tier.WriteAsync(keys, blocks).AsTask().Result));
                Note($"write, all there, {name}", Timed(() => Count + tier.WriteAsync(keys, blocks).AsTask().Result));
                Note($"read, {name}", Timed(() => tier.ReadAsync(keys, room).AsTask().Result));
                if (!room.AsSpan().SequenceEqual(blocks))
                {
                    throw new InvalidOperationException("other blocks came back");
                }
            }

            RedisKey[] names = [.. keys.Select(key => (RedisKey)$"plain:{key}")];
            Task.WaitAll([.. names.Select((name, i) => connection.GetDatabase().StringSetAsync(name, blocks.AsMemory(i * Block, Block)))]);
            Note("MGET of 8 blocks, one after the other", Timed(() => names.Chunk(8).Sum(some => connection.GetDatabase().StringGet(some).Count(value => !value.IsNull))));
            Delete("plain:*");
            foreach (int clients in new[] { 1, 4 })
            {
                // New keys: most of what a write takes is the server's memory, which it touches for the first time.
                Note($"redis-benchmark set, new keys, {clients} connections", Reference(uri, "set", clients, "-r", "1000000"));
                Delete("key:*");
                Note($"redis-benchmark set, one key, {clients} connections", Reference(uri, "set", clients));
                Note($"redis-benchmark get, one key, {clients} connections", Reference(uri, "get", clients));
            }
        }

        Console.WriteLine($"blocks of 1 MiB, {Count} a run, {Environment.ProcessorCount} logical cores, .NET {Environment.Version}, {Rounds} rounds: median, least and most GB/s");
        foreach ((string name, List<double> all) in rates)
        {
            all.Sort();
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"| {name} | {all[Rounds / 2]:f2} | {all[0]:f2} | {all[^1]:f2} |"));
        }

        return 0;

        void Delete(string pattern) => connection.GetDatabase().KeyDelete([.. connection.GetServers()[0].Keys(pattern: pattern, pageSize: 1000)]);

        void Note(string name, double rate)
        {
            rates.TryAdd(name, []);
            rates[name].Add(rate);
        }
    }

    private static double Timed(Func<int> run)
    {
        long began = Stopwatch.GetTimestamp();
        int done = run();
        double seconds = Stopwatch.GetElapsedTime(began).TotalSeconds;
        return done == Count ? (double)Count * Block / seconds / 1e9 : throw new InvalidOperationException($"{done} of {Count} blocks");
    }

    // Its rates of requests, as bytes.
    private static double Reference(Uri uri, string test, int clients, params string[] more)
    {
        ProcessStartInfo start = new("redis-benchmark", ["-h", uri.Host, "-p", $"{uri.Port}", "-t", test, "-d", $"{Block}", "-n", $"{Count}", "-c", $"{clients}", "--csv", .. more])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using Process process = Process.Start(start)!;
        string[] line = process.StandardOutput.ReadToEnd().Split('\n').Single(text => text.StartsWith($"\"{test.ToUpperInvariant()}\"", StringComparison.Ordinal)).Split(',');
        return double.Parse(line[1].Trim('"'), CultureInfo.InvariantCulture) * Block / 1e9;
    }
}
