using KvCacheGpu.Evaluation;
using KvCacheGpu.Plots;

namespace KvCacheGpu.Cli;

/// <summary>The folder with the results of an evaluation: finished cells, the table as CSV, and a curve per task.</summary>
internal sealed class EvalFiles(string directory)
{
    private const string ResultsName = "results.jsonl";
    private const string TableName = "eval.csv";
    private const double Percent = 100;

    private readonly string _results = Path.Combine(directory, ResultsName);

    /// <summary>Opens the finished cells.</summary>
    /// <param name="resume">True if cells of an earlier run count; false if there must not be any.</param>
    /// <exception cref="UsageException">There are cells although there must not be, or they cannot be read.</exception>
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

    /// <summary>Writes the table and the curves.</summary>
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

        // A file is written whole or not at all, so that a reader never finds half of one.
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
            .. rows.GroupBy(r => (r.Setting.Format, r.Setting.Policy)).Select(curve => new Curve(
                curve.Key.Policy == EvalCaches.NoPolicy ? curve.Key.Format : $"{curve.Key.Format} {curve.Key.Policy}",
                [.. curve.Select(r => Point(r, task.HasAnswers ? r.Accuracy : r.DeltaNll, task.HasAnswers ? Percent : 1))])),
        ]);

    private static CurvePoint Point(EvalRow row, Interval y, double unit) => new(Percent * row.Ratio, unit * y.Mean, unit * y.Low, unit * y.High);
}
