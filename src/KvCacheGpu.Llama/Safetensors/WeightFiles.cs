namespace KvCacheGpu.Llama;

/// <summary>A checkpoint's tensors, in one safetensors file or in the shards that an index lists.</summary>
internal sealed class WeightFiles : IDisposable
{
    /// <summary>The file of a checkpoint that is not in shards.</summary>
    public const string SingleName = "model.safetensors";

    /// <summary>The end of the names under which old exports store the frequencies of rope, which config.json gives.</summary>
    public const string Frequencies = ".rotary_emb.inv_freq";

    private readonly string _name;
    private readonly Dictionary<string, SafetensorsFile> _holders = new(StringComparer.Ordinal);
    private readonly HashSet<string> _read = new(StringComparer.Ordinal);
    private readonly List<SafetensorsFile> _files = [];

    private WeightFiles(string name) => _name = name;

    /// <summary>All tensors with the files that hold them, file after file.</summary>
    public IEnumerable<(SafetensorsFile File, TensorEntry Entry)> Tensors =>
        _files.SelectMany(file => file.Tensors.Where(entry => ReferenceEquals(_holders[entry.Name], file)).Select(entry => (file, entry)));

    /// <summary>The texts beside the tensors of all files; of two with one name, the first.</summary>
    public IReadOnlyDictionary<string, string> Metadata => _files.SelectMany(file => file.Metadata).DistinctBy(text => text.Key).ToDictionary();

    /// <summary>Opens model.safetensors, or, if there is no such file, the shards that model.safetensors.index.json lists.</summary>
    /// <exception cref="LlamaFormatException">A file is missing (E002), or contradicts itself or the others (E004).</exception>
    public static WeightFiles Open(string directory)
    {
        string index = Path.Combine(directory, SingleName + ".index.json");
        string single = Path.Combine(directory, SingleName);
        bool isSharded = !File.Exists(single) && File.Exists(index);
        WeightFiles files = new(isSharded ? Path.GetFileName(index) : SingleName);
        try
        {
            if (isSharded)
            {
                files.OpenShards(directory, ShardIndex.Read(index));
            }
            else
            {
                files.Add(SafetensorsFile.Open(single));
            }

            return files;
        }
        catch
        {
            files.Dispose();
            throw;
        }
    }

    /// <summary>Finds a tensor of a given shape and the file that holds it, and counts the tensor as read.</summary>
    /// <param name="tensor">Its name, or a second name that the file's metadata gives to a stored tensor, as for tied weights.</param>
    /// <param name="shape">The dimensions it must have.</param>
    /// <exception cref="LlamaFormatException">No file has the tensor, or it has another shape (E004), or a type that no weight has (E009).</exception>
    public (SafetensorsFile File, TensorEntry Entry) Require(string tensor, params ReadOnlySpan<long> shape)
    {
        string stored = _holders.ContainsKey(tensor)
            ? tensor
            : _files.Select(f => f.Metadata.GetValueOrDefault(tensor)).FirstOrDefault(n => n is not null && _holders.ContainsKey(n)) ?? tensor;
        if (!_holders.TryGetValue(stored, out SafetensorsFile? file))
        {
            LlamaFormatException.ThrowCorrupt(_name, tensor, "a tensor of this name", "no such tensor");
        }

        _read.Add(stored);
        return (file, file.Require(stored, shape));
    }

    /// <summary>Refuses a tensor that was not read: without one of its weights, a model gives text that looks right and is wrong.</summary>
    public void RefuseUnread(string architecture)
    {
        foreach ((string tensor, SafetensorsFile file) in _holders)
        {
            // Exports with tied weights may store the embedding twice.
            bool isHarmless = tensor == "lm_head.weight" || tensor.EndsWith(Frequencies, StringComparison.Ordinal);
            if (!isHarmless && !_read.Contains(tensor))
            {
                LlamaFormatException.ThrowUnsupported(file.Name, "tensors", $"what {architecture} is made of", tensor);
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _files.ForEach(f => f.Dispose());

    private void OpenShards(string directory, IReadOnlyDictionary<string, string> map)
    {
        foreach (string shard in map.Values.Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal))
        {
            SafetensorsFile file = Add(SafetensorsFile.Open(Path.Combine(directory, shard)));
            foreach (TensorEntry tensor in file.Tensors)
            {
                string? listed = map.GetValueOrDefault(tensor.Name);
                if (listed != shard)
                {
                    LlamaFormatException.ThrowCorrupt(shard, tensor.Name, $"to be where {_name} lists it", listed is null ? "not listed" : $"listed in {listed}");
                }
            }
        }

        foreach ((string tensor, string shard) in map)
        {
            if (!_holders.ContainsKey(tensor))
            {
                LlamaFormatException.ThrowCorrupt(_name, tensor, $"to be in {shard}", "no such tensor there");
            }
        }
    }

    private SafetensorsFile Add(SafetensorsFile file)
    {
        _files.Add(file);
        foreach (TensorEntry tensor in file.Tensors)
        {
            _holders.TryAdd(tensor.Name, file);
        }

        return file;
    }
}
