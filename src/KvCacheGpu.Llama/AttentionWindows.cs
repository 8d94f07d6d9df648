using System.Text.Json;

namespace KvCacheGpu.Llama;

/// <summary>Reads the attention window of each layer.</summary>
internal static class AttentionWindows
{
    private const int WindowWhereAbsent = 4096;
    private const int FirstLayerWhereAbsent = 28;

    /// <summary>Number of positions that a token sees in each layer, its own included; 0 for all before it.</summary>
    public static int[] Read(JsonFile file, Architecture architecture, int layers)
    {
        int[] windows = new int[layers];
        bool isUsed = architecture.Window == WindowRule.EveryLayer
            || (architecture.Window == WindowRule.UpperLayers && file.Bool("use_sliding_window", false));
        int window = !isUsed || file.IsNull("sliding_window") ? 0 : file.Int("sliding_window", 1, int.MaxValue, WindowWhereAbsent);
        if (architecture.Window == WindowRule.EveryLayer)
        {
            Array.Fill(windows, window);
        }
        else if (architecture.Window == WindowRule.UpperLayers && file.Find("layer_types") is { } types)
        {
            ReadTypes(file, types, window, windows);
        }
        else if (window > 0)
        {
            int first = Math.Min(layers, file.Int("max_window_layers", 0, int.MaxValue, FirstLayerWhereAbsent));
            windows.AsSpan(first).Fill(window);
        }

        return windows;
    }

    private static void ReadTypes(JsonFile file, JsonElement types, int window, int[] windows)
    {
        if (types.ValueKind != JsonValueKind.Array || types.GetArrayLength() != windows.Length)
        {
            LlamaFormatException.ThrowCorrupt(file.Name, "layer_types", $"one for each of {windows.Length} layers", types.GetRawText());
        }

        for (int layer = 0; layer < windows.Length; layer++)
        {
            string type = types[layer].ValueKind == JsonValueKind.String ? types[layer].GetString()! : types[layer].GetRawText();
            if (type is not ("full_attention" or "sliding_attention"))
            {
                LlamaFormatException.ThrowUnsupported(file.Name, "layer_types", "full_attention and sliding_attention", type);
            }

            if (type == "sliding_attention" && window == 0)
            {
                LlamaFormatException.ThrowCorrupt(file.Name, "layer_types", "full_attention, as there is no window", type);
            }

            windows[layer] = type == "sliding_attention" ? window : 0;
        }
    }
}
