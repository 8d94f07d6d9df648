namespace KvCacheGpu.Tests;

/// <summary>How one run's cache is made.</summary>
/// <param name="Formats">Formats of layer 0.</param>
/// <param name="Second">Formats of layer 1, or those of layer 0.</param>
/// <param name="Demotions">What pages may be demoted to.</param>
/// <param name="Window">Tokens that a window keeps, or 0: no policy.</param>
/// <param name="BudgetPercent">Of what a cache takes without a budget.</param>
/// <param name="Keeps">True if some values are NaN, and their pages kept.</param>
/// <param name="Rollback">Tokens at the end that can be taken off exactly.</param>
internal sealed record ModelRun(
    KvFormats Formats, KvFormats? Second, KvFormats[] Demotions, int Window = 0, int BudgetPercent = 100, bool Keeps = false, int Rollback = 4)
{
    public KvCacheOptions Config() => new()
    {
        MaxTokens = 64,
        MaxSequences = 6,
        MaxBatchTokens = 24,
        KeyFormat = Formats.Key,
        ValueFormat = Formats.Value,
        LayerFormats = Second is { } second ? new Dictionary<int, KvFormats> { [1] = second } : null,
        DemotionFormats = Demotions,
        FullPrecision = PageFormat.F32,
        ExactRollbackTokens = Rollback,
        NonFinite = Keeps ? NonFinitePolicy.Keep : NonFinitePolicy.Reject,
        Policy = Window == 0 ? null : new SlidingOnly(new WindowPolicy(5, Window)),
    };
}

/// <content>What tokens hold, demotion, and what compressed pages may be off by.</content>
internal sealed partial class RandomOperations
{
    // Some tokens have a value of head 1, layer 0 that is no number.
    private const int IdsPerNaN = 23;

    private bool IsNaN(int id) => _run.Keeps && id % IdsPerNaN == 0;

    private bool IsKept(int row, IEnumerable<int> ids) => row == 1 && ids.Any(IsNaN);

    private float[] Values(int layer, ReadOnlySpan<int> ids)
    {
        float[] values = TokenContent.Values(_geometry, layer, ids);
        for (int i = 0; layer == 0 && i < ids.Length; i++)
        {
            if (IsNaN(ids[i]))
            {
                values[((i * _geometry.KvHeads) + 1) * _geometry.ValueWidth] = float.NaN;
            }
        }

        return values;
    }

    private string Demote()
    {
        ModelSequence model = Any();
        if (model.Pages.Count == 0 || _run.Demotions.Length == 0)
        {
            return "nothing to demote";
        }

        (int layer, int head) = (_random.Next(_geometry.Layers), _random.Next(_geometry.KvHeads));
        int page = model.Pages[_random.Next(model.Pages.Count)];
        KvFormats formats = _run.Demotions[_random.Next(_run.Demotions.Length)];
        (int row, int target) = ((layer * _geometry.KvHeads) + head, _cache.State.Classes.TargetOf(formats));
        Trace before = TraceOf([model]);
        if (!model.MayDemote(row, page, target))
        {
            Assert.ThrowsAny<ArgumentException>(() => model.Sequence.Demote(layer, head, page, formats));
            AssertNoTrace(before, [model]);
            return "demote against the ladder";
        }

        try
        {
            bool kept = IsKept(row, model.TokensOf(page));
            Assert.Equal(!kept, model.Sequence.Demote(layer, head, page, formats));
            if (kept)
            {
                AssertNoTrace(before, [model]);
                return "demote kept";
            }
        }
        catch (KvOutOfMemoryException)
        {
            AssertNoTrace(before, [model]);
            return "demote refused";
        }

        model.Demote(row, page, target);
        return "demote";
    }

    private void CheckContent(ModelSequence model)
    {
        (int layer, int head) = (_random.Next(_geometry.Layers), _random.Next(_geometry.KvHeads));
        int[] ids = [.. model.Pages.SelectMany(model.TokensOf)];
        int[] pages = [.. model.Pages.SelectMany(page => model.TokensOf(page).Select(_ => page))];
        var keys = new float[ids.Length * _geometry.KeyWidth];
        var values = new float[ids.Length * _geometry.ValueWidth];
        Assert.Equal(ids.Length, model.Sequence.Materialize(layer, head, keys, values));
        (float[] allKeys, float[] allValues) = (TokenContent.Keys(_geometry, layer, ids), Values(layer, ids));
        for (int i = 0; i < ids.Length; i++)
        {
            ModelPage page = model.States[((layer * _geometry.KvHeads) + head, pages[i])];
            int vector = (i * _geometry.KvHeads) + head;
            Compare(allKeys.AsSpan(vector * _geometry.KeyWidth, _geometry.KeyWidth), keys.AsSpan(i * _geometry.KeyWidth, _geometry.KeyWidth), page.KeyLoss);
            Compare(allValues.AsSpan(vector * _geometry.ValueWidth, _geometry.ValueWidth), values.AsSpan(i * _geometry.ValueWidth, _geometry.ValueWidth), page.ValueLoss);
        }

        Assert.Equal(model.Tokens.Count - (ids.Length), model.Sequence.EvictedTokens);
    }

    // Wide enough for a vector of 8 elements encoded several times, and far below what another token's vector is off by.
    private static void Compare(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual, int loss)
    {
        if (loss == 0)
        {
            Assert.Equal(expected.ToArray(), actual.ToArray());
            return;
        }

        double error = 0;
        double norm = 0;
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.Equal(float.IsNaN(expected[i]), float.IsNaN(actual[i]));
            error += float.IsNaN(expected[i]) ? 0 : Math.Pow(expected[i] - actual[i], 2);
            norm += float.IsNaN(expected[i]) ? 0 : expected[i] * expected[i];
        }

        double most = (32 - loss) switch { 2 => 1.1, 3 => 0.8, 4 => 0.5, _ => 0.2 };
        Assert.True(Math.Sqrt(error) <= most * (Math.Sqrt(norm) + 1), $"in {32 - loss} bits: off by {Math.Sqrt(error)} of {Math.Sqrt(norm)}");
    }
}
