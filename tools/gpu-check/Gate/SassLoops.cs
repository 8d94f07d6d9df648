namespace KvCacheGpu.GpuCheck;

/// <summary>
/// The page loop of a function: the largest loop that holds tensor-core instructions, less what most passes skip.
/// A loop is what a branch goes back to the head of, through blocks that only the head leads into. A rare path is what a conditional branch skips and
/// holds neither a tensor-core instruction nor a store to global memory (masks, a soft cap, a moved maximum; but a page's statistics count); of two such paths that exclude each other the shorter counts, since the rare one does more; so of two
/// ways to multiply, one for whole pages and one for pages that are cut.
/// </summary>
internal sealed class SassLoops
{
    private readonly IReadOnlyList<SassInstruction> _code;
    private readonly List<(int First, int Last)> _blocks = [];
    private readonly List<int>[] _next;
    private readonly List<int>[] _before;

    private SassLoops(IReadOnlyList<SassInstruction> code)
    {
        _code = code;
        CutBlocks();
        (_next, _before) = Join();
    }

    /// <summary>A loop with what each of its passes runs.</summary>
    /// <param name="Hot">Instructions that belong to no inner loop with tensor-core instructions, in the order of their addresses, without rare paths.</param>
    /// <param name="Rare">Instructions of its rare paths.</param>
    internal sealed record Loop(IReadOnlyList<SassInstruction> Hot, int Rare);

    /// <summary>The page loop and the loops in it that hold tensor-core instructions, in the order of the branches that close them, so that inner ones come
    /// before outer ones; empty if no loop has such an instruction.</summary>
    public static IReadOnlyList<Loop> Find(IReadOnlyList<SassInstruction> code)
    {
        var graph = new SassLoops(code);
        List<(int Head, HashSet<int> Blocks)> loops = [.. graph.NaturalLoops().Where(l => l.Blocks.Any(graph.HasMma))];
        if (loops.Count == 0)
        {
            return [];
        }

        (int head, HashSet<int> page) = loops.MaxBy(l => l.Blocks.Sum(graph.Length));
        HashSet<int> rare = graph.RareBlocks(head, page);
        loops = [.. loops.Where(l => l.Blocks.IsSubsetOf(page)).OrderBy(l => graph.Closing(l.Head, l.Blocks))];
        var found = new List<Loop>();
        foreach ((int _, HashSet<int> blocks) in loops)
        {
            int[] own = [.. blocks.Where(b => !loops.Any(l => l.Blocks.Contains(b) && l.Blocks.IsProperSubsetOf(blocks))).Order()];
            found.Add(new Loop(
                [.. own.Where(b => !rare.Contains(b)).SelectMany(graph.Instructions)], own.Where(rare.Contains).Sum(graph.Length)));
        }

        return found;
    }

    private int Length(int block) => _blocks[block].Last - _blocks[block].First + 1;

    private IEnumerable<SassInstruction> Instructions(int block) => Enumerable.Range(_blocks[block].First, Length(block)).Select(i => _code[i]);

    private bool HasMma(int block) => Instructions(block).Any(i => i.IsMma);

    private bool IsWork(int block) => Instructions(block).Any(i => i.IsMma || i.Name == "STG");

    private int Closing(int head, HashSet<int> blocks) => blocks.Where(b => _next[b].Contains(head)).Max();

    private void CutBlocks()
    {
        HashSet<int> targets = [.. _code.Select(i => i.Target).OfType<int>()];
        for (int i = 0, first = 0; i < _code.Count; i++)
        {
            bool isLast = i + 1 == _code.Count || _code[i].Target is not null || _code[i].Ends || targets.Contains(_code[i + 1].Address);
            if (isLast)
            {
                _blocks.Add((first, i));
                first = i + 1;
            }
        }
    }

    private (List<int>[] Next, List<int>[] Before) Join()
    {
        Dictionary<int, int> at = _blocks.Select((b, i) => (_code[b.First].Address, i)).ToDictionary();
        List<int>[] next = [.. _blocks.Select(_ => new List<int>())];
        List<int>[] before = [.. _blocks.Select(_ => new List<int>())];
        for (int b = 0; b < _blocks.Count; b++)
        {
            SassInstruction last = _code[_blocks[b].Last];
            if (last.Target is { } target && at.TryGetValue(target, out int there))
            {
                next[b].Add(there);
            }

            bool goesOn = last.Target is null ? !last.Ends : last.IsConditional;
            if (goesOn && b + 1 < _blocks.Count && !next[b].Contains(b + 1))
            {
                next[b].Add(b + 1);
            }

            next[b].ForEach(n => before[n].Add(b));
        }

        return (next, before);
    }

    // Branches back to one head close one loop.
    private IEnumerable<(int Head, HashSet<int> Blocks)> NaturalLoops()
    {
        HashSet<int>[] dominators = Dominators(_blocks.Count, 0, b => _before[b], Reach(0, b => _next[b]));
        for (int head = 0; head < _blocks.Count; head++)
        {
            HashSet<int>[] bodies = [.. _before[head].Where(b => dominators[b].Contains(head)).Select(b => Body(head, b))];
            if (bodies.Length == 0)
            {
                continue;
            }

            yield return (head, [.. bodies.SelectMany(b => b)]);
        }

        HashSet<int> Body(int head, int closing) => closing == head ? [head]
            : [head, .. Reach(closing, b => _before[b].Where(before => dominators[before].Contains(head)), head)];
    }

    private HashSet<int> RareBlocks(int head, HashSet<int> page)
    {
        // A pass ends where it goes back to the head or leaves the loop.
        int end = _blocks.Count;
        IEnumerable<int> Next(int b) => b == end ? [] : _next[b].Select(n => n == head || !page.Contains(n) ? end : n).Distinct();
        IEnumerable<int> Before(int b) => b == end
            ? page.Where(p => Next(p).Contains(end))
            : _before[b].Where(p => page.Contains(p) && b != head);
        HashSet<int>[] after = Dominators(end + 1, end, Next, Reach(end, Before));
        var rare = new HashSet<int>();
        // A branch that leaves the loop skips nothing: it ends it.
        foreach (int block in page.Where(b => _code[_blocks[b].Last].IsConditional && _next[b].Count == 2 && _next[b].All(page.Contains)))
        {
            // The nearest block that every way from here comes through is the one that has all the others behind it.
            int join = after[block].Where(b => b != block).MaxBy(b => after[b].Count);
            HashSet<int>[] paths = [.. Next(block).Where(n => n != join).Select(n => Reach(n, Next, join))];
            if (paths.Any(p => p.Contains(block) || p.Contains(end)))
            {
                continue;
            }

            if (paths.Length == 1 && !paths[0].Any(IsWork))
            {
                rare.UnionWith(paths[0]);
            }
            else if (paths.Length == 2 && !paths[0].Overlaps(paths[1]) && paths[0].Any(HasMma) == paths[1].Any(HasMma))
            {
                rare.UnionWith(paths.MaxBy(p => p.Sum(Length))!);
            }
        }

        return rare;
    }

    // The blocks that can be reached, the start among them; the block where it stops is not, unless it is the start.
    private static HashSet<int> Reach(int start, Func<int, IEnumerable<int>> next, int stop = -1)
    {
        HashSet<int> seen = [start];
        var open = new Stack<int>([start]);
        while (open.TryPop(out int block))
        {
            foreach (int n in next(block))
            {
                if (n != stop && seen.Add(n))
                {
                    open.Push(n);
                }
            }
        }

        return seen;
    }

    // Of each block that can be reached, the blocks that every way to it comes through, itself among them.
    private static HashSet<int>[] Dominators(int count, int entry, Func<int, IEnumerable<int>> before, HashSet<int> reached)
    {
        var sets = new HashSet<int>[count];
        for (int b = 0; b < count; b++)
        {
            sets[b] = b == entry ? [entry] : reached.Contains(b) ? [.. reached] : [];
        }

        for (bool changed = true; changed;)
        {
            changed = false;
            foreach (int b in reached.Where(b => b != entry))
            {
                HashSet<int>? common = null;
                foreach (int p in before(b).Where(reached.Contains))
                {
                    if (common is null)
                    {
                        common = [.. sets[p]];
                    }
                    else
                    {
                        common.IntersectWith(sets[p]);
                    }
                }

                common ??= [];
                common.Add(b);
                if (!common.SetEquals(sets[b]))
                {
                    sets[b] = common;
                    changed = true;
                }
            }
        }

        return sets;
    }
}
