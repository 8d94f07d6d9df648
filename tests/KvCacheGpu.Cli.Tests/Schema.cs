using System.Text.Json;

namespace KvCacheGpu.Cli.Tests;

/// <summary>Exactly which keys a JSON object has, in which order, and of which types.</summary>
internal static class Schema
{
    /// <summary>Holds an object to "key type, key type, ...": string, number, bool, array, object; "?" after a type allows null.</summary>
    public static JsonElement Check(JsonElement element, string schema)
    {
        string[][] keys = [.. schema.Split(", ").Select(k => k.Split(' '))];
        Assert.Equal(JsonValueKind.Object, element.ValueKind);
        Assert.Equal(keys.Select(k => k[0]), element.EnumerateObject().Select(p => p.Name));
        foreach (string[] key in keys)
        {
            JsonElement value = element.GetProperty(key[0]);
            bool mayBeNull = key[1].EndsWith('?');
            string type = value.ValueKind switch
            {
                JsonValueKind.True or JsonValueKind.False => "bool",
                JsonValueKind.Null when mayBeNull => key[1].TrimEnd('?'),
                _ => value.ValueKind.ToString().ToLowerInvariant(),
            };
            Assert.Equal((key[0], key[1].TrimEnd('?')), (key[0], type));
        }

        return element;
    }

    public static int[] Ints(this JsonElement element, string key) => [.. element.GetProperty(key).EnumerateArray().Select(e => e.GetInt32())];

    public static long Long(this JsonElement element, string key) => element.GetProperty(key).GetInt64();

    public static double Double(this JsonElement element, string key) => element.GetProperty(key).GetDouble();

    public static string? Text(this JsonElement element, string key) => element.GetProperty(key).GetString();

    public static PageFormat Format(this JsonElement element, string key)
    {
        Assert.True(PageFormats.TryParse(element.Text(key), out PageFormat format));
        return format;
    }
}
