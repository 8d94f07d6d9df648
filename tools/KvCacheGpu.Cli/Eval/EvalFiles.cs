using KvCacheGpu.Evaluation;
using KvCacheGpu.Plots;

namespace KvCacheGpu.Cli;

/// <summary>The folder that an evaluation leaves its results in: finished cells, the table as CSV, a curve per task.</summary>
internal sealed class EvalFiles(string directory)
{
    private const string ResultsName = "results.jsonl";
    private const string TableName = "eval.csv";
    private const double Percent = 100;

    private readonly string _results = Path.Combine(directory, ResultsName);

    /// <summary>Opens the finished cells.</summary>
    /// <param name="resume">Whether cells of an earlier run count; without it they must not be there.</param>
    /// <exception cref="UsageException">There are, or they cannot be read.</exception>
    public ResultsFile OpenResults(bool resume)
    {
        if (File.Exists(_results) && !resume)
        {
            throw new UsageException("--out", "a folder without results, or --resume to go on with them", $"\"{_results}\"");
        }

        try
        {
            Directory.CreateDirectory(directory);
            return ResultsFile.Open(_results);
        }
        catch (InvalidDataException e)
        {
            throw new UsageException("--resume", "the results of an earlier run", e.Message, "E004");
        }
        catch (UnauthorizedAccessException e)
        {
            throw new UsageException("--out", "a folder that can be written to", e.Message);
        }
    }

    /// <summary>Writes table and curves.</summary>
    /// <returns>All files of the run.</returns>
    public IReadOnlyList<string> Write(EvalTable table)
    {
        List<string> files = [_results];
        Put(TableName, System.Text.Encoding.UTF8.GetBytes(EvalCsv.Write(table.Rows)));
        foreach (EvalTask task in EvalTask.All.Where(t => table.Rows.Any(r => r.Task == t.Name)))
        {
            Put($"{task.Name}.png", Plot(task, [.. table.Rows.Where(r => r.Task == task.Name)]).ToPng());
        }

        return files;

        // Whole or not at all: a reader never finds half a file.
        void Put(string name, byte[] bytes)
        {
            string path = Path.Combine(directory, name);
            File.WriteAllBytes(path + ".new", bytes);
            File.Move(path + ".new", path, overwrite: true);
            files.Add(path);
        }
    }

    private static CurvePlot Plot(EvalTask task, EvalRow[] rows) => new(
        $"{task.Name}: {task.Summary}",
        "bytes really allocated, % of dense F16",
        task.HasAnswers ? "right answers, %" : "nats per token lost against the full cache",
        [
            .. rows.GroupBy(r => (r.Format, r.Policy)).Select(curve => new Curve(
                curve.Key.Policy == EvalCaches.NoPolicy ? curve.Key.Format : $"{curve.Key.Format} {curve.Key.Policy}",
                [.. curve.Select(r => Point(r, task.HasAnswers ? r.Accuracy : r.DeltaNll, task.HasAnswers ? Percent : 1))])),
        ]);

    private static CurvePoint Point(EvalRow row, Interval y, double unit) => new(Percent * row.Ratio, unit * y.Mean, unit * y.Low, unit * y.High);
}
