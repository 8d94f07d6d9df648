namespace KvCacheGpu.Serving.Tests;

/// <summary>A toy model whose steps wait until a test lets them go, so that the test decides what has come by then.</summary>
internal sealed class HeldModel : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    private readonly SemaphoreSlim _allowed = new(0);
    private readonly SemaphoreSlim _begun = new(0);

    public HeldModel()
    {
        Model.BeforeStep = (ids, counts) =>
        {
            Last = counts;
            _begun.Release();
            Assert.True(_allowed.Wait(Patience), "the test let no step go");
        };
    }

    public ToyModel Model { get; } = new();

    /// <summary>Tokens of each lane of the step that waits.</summary>
    public int[] Last { get; private set; } = [];

    /// <summary>Waits until a step has begun; it stays held.</summary>
    public async Task Begun() => Assert.True(await _begun.WaitAsync(Patience), "no step has begun");

    /// <summary>Lets the step go that is held, and waits for the next one.</summary>
    public async Task Step()
    {
        _allowed.Release();
        await Begun();
    }

    /// <summary>Lets all steps go from now on.</summary>
    public void Release() => _allowed.Release(1_000_000);

    public void Dispose()
    {
        Release();
        _begun.Dispose();
    }
}
