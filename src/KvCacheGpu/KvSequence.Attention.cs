using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>Attention to what is stored, without a step.</content>
public sealed partial class KvSequence
{
    /// <summary>
    /// Attends to what a layer holds, and changes nothing that is stored: no token is appended, no page taken, dropped or moved. The queries stand at
    /// the places of the last tokens, as in the step that appended these: the last query sees every resident token, the one before it all but
    /// the last token, and so on. Tokens that a policy dropped are as if masked.
    /// </summary>
    /// <param name="layer">Layer.</param>
    /// <param name="queries">
    /// <c>[queries][query heads][key width]</c>; scaled by 1/sqrt(key width) inside. At least 1 query, at most <see cref="Length"/> and
    /// <see cref="KvCacheConfig.MaxBatchTokens"/>.
    /// </param>
    /// <param name="output">
    /// Receives <c>[queries][query heads][value width]</c>, in host memory or on the device, and where it is wanted the natural log-sum-exp of each
    /// <c>[query][query head]</c>.
    /// </param>
    /// <param name="window">A query sees its own place and the <c>window - 1</c> positions before it. The default value is 0: all before it.</param>
    /// <param name="counts">
    /// Whether the policy takes the last query for attention that the tokens received, as it takes that of a step's last token: then scores,
    /// <see cref="PageMass"/> and the place among least recently used sequences follow it. The default value is false: the call leaves no trace at all.
    /// Set it where the call stands for a step of the model.
    /// </param>
    /// <remarks>
    /// Takes working memory as a step does, and gives it back before it returns: it waits where other calls of Attend hold all that the budget has room
    /// for. Allocates no managed memory.
    /// </remarks>
    /// <exception cref="ArgumentException">No such layer, too many queries or none, or a tensor or target of another shape.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: steps under way hold all the working memory that the budget has room for (<see cref="KvOutOfMemoryException.IsTransient"/>).</exception>
    /// <exception cref="KvUnsupportedException">
    /// E009: a device tensor where pages live in host memory; several queries that reach back to pages that a policy dropped or merged; a query that sees
    /// no token any longer; a window over merged pages.
    /// </exception>
    public void Attend(int layer, KvTensor queries, KvOutput output, int window = 0, bool counts = false)
    {
        using Call call = new(this);
        var reading = new AttentionRead(this, layer, queries, window, counts);
        output = output.First(reading.Rows, Cache.Geometry.ValueWidth);
        StepMemory memory = reading.Begin();
        try
        {
            memory.Batch.Attend(layer, queries, output, window);
            reading.Count(memory, output.Host);
        }
        catch (NotSupportedException e)
        {
            throw Unsupported(e);
        }
        finally
        {
            Cache.EndRead(memory);
        }
    }

    /// <summary>Takes a query outside of steps for attention that the sequence's tokens received. The sequence is the caller's.</summary>
    internal void NoteAttended(int layer)
    {
        LastStep = Cache.Tick();
        _attended.Add(layer);
    }

    // A merged page's tokens are of several pages: kernels know no positions by which a window could cut it.
    internal void ThrowIfWindowOverMerged(int layer, int window)
    {
        if (window > 0 && Table.HasMerged(layer))
        {
            throw new KvUnsupportedException(
                $"Attend to layer {layer} through a window", "pages that were not merged", $"merged ones ({nameof(KvCacheConfig.MergePages)})");
        }
    }

    private KvUnsupportedException Unsupported(NotSupportedException inner) =>
        new($"Attend on {Cache.TierName}", "memory that the device reads", inner.Message, inner);
}
