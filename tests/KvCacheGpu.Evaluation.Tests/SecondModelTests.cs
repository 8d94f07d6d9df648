using KvCacheGpu.Llama;

namespace KvCacheGpu.Evaluation.Tests;

/// <summary>The model on which nothing is tuned: it can be asked, and it has attention sinks.</summary>
public sealed class SecondModelTests : IDisposable
{
    private readonly LlamaModel _model = LlamaModel.Load(Path.Combine(AppContext.BaseDirectory, "second-model"));

    private EvalText Text => EvalText.Create(_model.Tokenizer!, File.ReadAllText(Path.Combine(_model.Directory, DemoModel.DocumentName)));

    [Fact]
    public void It_recalls_facts_and_reads_text()
    {
        EvalIdentity identity = new(_model.Directory, "text", "cpu", EvalScale.Quick);
        EvalPlan plan = new([EvalTask.Gate, Demo.Task("text")], [], 2, EvalScale.Quick, "cpu");
        EvalRow[] rows = [.. new EvalRun(_model, Text, identity, plan).Run(ResultsFile.InMemory()).Rows];
        Assert.Equal(["recall", "text"], rows.Select(r => r.Task));
        Assert.InRange(rows[0].Accuracy.Mean, EvalRun.LeastRecall, 1);
        Assert.InRange(rows[1].Perplexity, 1, 90);
    }

    [Fact]
    public void Many_heads_look_at_the_first_token()
    {
        EvalPrompt prompt = Demo.Task("text").Prompts(Text, EvalScale.Quick, 0)[0];
        FutureMass mass = new EvalTrial(_model, EvalCaches.Config, "cpu").Foresee([prompt], CancellationToken.None).Single();
        KvGeometry geometry = _model.Geometry(EvalScale.PageTokens);
        double[] shares = [.. Enumerable.Range(0, geometry.Layers * geometry.KvHeads).Select(row => mass.After(0, row, 0) / (double)mass.Queries)];

        // Of each KV head's three query heads together, on the first page, which is one of 60.
        Assert.True(shares.Count(share => share > .25) >= shares.Length / 3, string.Join(' ', shares));
    }

    public void Dispose() => _model.Dispose();
}
