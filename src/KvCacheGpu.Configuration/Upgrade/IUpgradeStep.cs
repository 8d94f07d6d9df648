namespace KvCacheGpu.Configuration;

/// <summary>
/// One journalled step of an upgrade. <see cref="Plan"/> is written down before <see cref="Do"/> begins, so that another process can finish or undo what this one began.
/// </summary>
public interface IUpgradeStep
{
    /// <summary>Its name in the journal: one word, never changed.</summary>
    string Name { get; }

    /// <summary>Its line in the checklist.</summary>
    string Title { get; }

    /// <summary>All that the other three need to know, as a text of one's own; null where there is nothing to do. Changes nothing.</summary>
    string? Plan();

    /// <summary>Does it, and says in a few words what was done. Done again after an interruption, it completes.</summary>
    string Do(string plan);

    /// <summary>Puts back what was there before, whether the step was done, half done, or not begun.</summary>
    void Undo(string plan);

    /// <summary>Looks whether the step holds; an exception says what does not, and the whole run is undone.</summary>
    void Verify(string plan);
}
