using System.Text;
using System.Text.Json;

namespace KvCacheGpu.Evaluation;

/// <summary>Finished cells, one line of JSON each, appended when they finish. A run that was stopped continues from them.</summary>
public sealed class ResultsFile : IDisposable
{
    private static readonly JsonSerializerOptions _json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    private readonly Dictionary<string, EvalCell> _cells = [];
    private readonly FileStream? _stream;

    private ResultsFile(FileStream? stream) => _stream = stream;

    /// <summary>Number of cells read and added.</summary>
    public int Count => _cells.Count;

    /// <summary>Keeps cells only in memory.</summary>
    public static ResultsFile InMemory() => new(null);

    /// <summary>Opens a file, or makes it if it does not exist, and reads its cells. A last line that was cut off is removed.</summary>
    /// <exception cref="InvalidDataException">E004: a line other than the last is no cell.</exception>
    public static ResultsFile Open(string path)
    {
        FileStream stream = new(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read);
        ResultsFile file = new(stream);
        try
        {
            file.Read(path);
            return file;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>The finished cell of an identity, or null.</summary>
    public EvalCell? Find(string id) => _cells.GetValueOrDefault(id);

    /// <summary>Adds a finished cell; once this returns, it survives the end of the program.</summary>
    public void Add(EvalCell cell)
    {
        ArgumentNullException.ThrowIfNull(cell);
        _cells[cell.Id] = cell;
        if (_stream is not null)
        {
            _stream.Write(Encoding.UTF8.GetBytes(JsonSerializer.Serialize(cell, _json) + "\n"));
            _stream.Flush(flushToDisk: true);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _stream?.Dispose();

    private void Read(string path)
    {
        byte[] bytes = new byte[_stream!.Length];
        _stream.ReadExactly(bytes);
        int start = 0;
        for (int line = 1; bytes.AsSpan(start).IndexOf((byte)'\n') is >= 0 and int length; line++)
        {
            try
            {
                EvalCell cell = JsonSerializer.Deserialize<EvalCell>(bytes.AsSpan(start, length), _json)!;
                _cells[cell.Id] = cell;
            }
            catch (Exception e) when (e is JsonException or NullReferenceException or ArgumentNullException)
            {
                throw new InvalidDataException($"{path}: expected a result in line {line}, got something else", e);
            }

            start += length + 1;
        }

        _stream.SetLength(start);
    }
}
