namespace KvCacheGpu;

/// <summary>
/// All that the launches of a step depend on, apart from what they read on the device. A graph that one step has captured fits every later step of an equal
/// shape: a host keeps its graphs by shape.
/// </summary>
/// <remarks>
/// Lengths, tables and positions lie in device memory and may differ. A sequence that grows beyond a power of two of <see cref="Segments"/> comes to another shape, and so does a step that is
/// given other working memory, as one is that begins while earlier ones wait for their outcome. Thread safety: it never changes.
/// </remarks>
public readonly record struct KvStepShape
{
    internal KvStepShape(long workingMemory, int tokens, int segments, bool sumsQueries, int sequences, BlockCounts blocks)
    {
        (WorkingMemory, Sequences, Tokens, Segments, SumsQueries) = (workingMemory, sequences, tokens, segments, sumsQueries);
        Blocks = blocks;
    }

    /// <summary>The working memory of the step: a number that no other memory of this process has had.</summary>
    public long WorkingMemory { get; }

    /// <summary>Tokens of the step, over all its sequences.</summary>
    public int Tokens { get; }

    /// <summary>Sequences of the step.</summary>
    public int Sequences { get; }

    /// <summary>Parts that attention divides a row of pages into at most, a power of two.</summary>
    public int Segments { get; }

    /// <summary>True while the squares of queries are added up: the cache is learning its key scales.</summary>
    public bool SumsQueries { get; }

    internal BlockCounts Blocks { get; }

    /// <summary>The numbers in words.</summary>
    public override string ToString() =>
        $"{Sequences} sequences, {Tokens} tokens, {Blocks.Few.Count} blocks of {Blocks.Few.Queries} queries, {Blocks.Some.Count} of {Blocks.Some.Queries} and {Blocks.Many.Count} of {Blocks.Many.Queries}, "
        + $"{Segments} segments, queries {(SumsQueries ? "added up" : "not added up")}, working memory {WorkingMemory}";
}

/// <summary>Blocks of queries that one launch of attention takes.</summary>
/// <param name="Count">How many.</param>
/// <param name="Queries">Queries of each.</param>
internal readonly record struct QueryBlocks(int Count, int Queries);

/// <summary>The blocks of the three launches that a step's queries may need, by their size.</summary>
/// <param name="Few">Of sequences with few queries.</param>
/// <param name="Some">Of sequences with more.</param>
/// <param name="Many">Of chunks.</param>
internal readonly record struct BlockCounts(QueryBlocks Few, QueryBlocks Some, QueryBlocks Many);

/// <summary>
/// What a step enqueued between <c>BeginCapture</c> and <c>EndCapture</c>, as a graph of CUDA's: later steps of the same <see cref="Shape"/> replay it in one launch.
/// </summary>
/// <remarks>Dispose it when no step will replay it any more; work that has been enqueued goes on. Thread safety: it never changes, but by <see cref="Dispose"/>.</remarks>
public sealed class KvStepGraph : IDisposable
{
    private readonly CapturedAttend[] _attended;
    private readonly Action<nint>? _destroy;
    private nint _graph;

    internal KvStepGraph(KvStepShape shape, CapturedLayers layers, nint graph, Action<nint>? destroy)
    {
        (Shape, _graph, _destroy) = (shape, graph, destroy);
        (FirstLayer, EndLayer, _attended) = (layers.First, layers.End, layers.Attended);
    }

    /// <summary>The shape of the steps that may replay it.</summary>
    public KvStepShape Shape { get; }

    /// <summary>The first layer that it appends: the next one of the step that captured it.</summary>
    public int FirstLayer { get; }

    /// <summary>The layer behind the last one that it appends.</summary>
    public int EndLayer { get; }

    /// <summary>Its calls of attention, in their order.</summary>
    internal ReadOnlySpan<CapturedAttend> Attended => _attended;

    /// <summary>The CUgraphExec.</summary>
    /// <exception cref="ObjectDisposedException">It was disposed.</exception>
    internal nint Handle
    {
        get
        {
            nint graph = Volatile.Read(ref _graph);
            ObjectDisposedException.ThrowIf(graph == 0, this);
            return graph;
        }
    }

    /// <summary>Destroys the graph; one that the host instantiated stays the host's.</summary>
    public void Dispose()
    {
        nint graph = Interlocked.Exchange(ref _graph, 0);
        if (graph != 0)
        {
            _destroy?.Invoke(graph);
        }
    }
}

/// <summary>An attention that a graph has captured.</summary>
/// <param name="Layer">Its layer.</param>
/// <param name="Window">Its window, or 0.</param>
internal readonly record struct CapturedAttend(int Layer, int Window);

/// <summary>The calls that a graph has captured.</summary>
/// <param name="First">First layer appended.</param>
/// <param name="End">The layer behind the last one appended.</param>
/// <param name="Attended">The calls of attention.</param>
internal readonly record struct CapturedLayers(int First, int End, CapturedAttend[] Attended);

/// <summary>Work was to be enqueued on a stream that is being captured, where the cache does not know of the capture; or the other way round.</summary>
internal sealed class StreamCaptureException(string expected, string actual, Exception? inner = null)
    : InvalidOperationException($"expected {expected}, got {actual}", inner)
{
    public string Expected { get; } = expected;

    public string Actual { get; } = actual;
}
