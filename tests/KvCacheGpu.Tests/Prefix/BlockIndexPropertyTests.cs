using static KvCacheGpu.Tests.BlockIndexFixture;

namespace KvCacheGpu.Tests;

/// <summary>Random operations on an index and on plain lists, side by side, with the invariants checked after every one.</summary>
public sealed class BlockIndexPropertyTests
{
    private const int Usable = 24;

    [Theory]
    [InlineData(1, 1)]
    [InlineData(2, 3)]
    [InlineData(3, 4)]
    [InlineData(4, 4)]
    public void An_index_does_what_plain_lists_do(int seed, int pageTokens)
    {
        var done = new Dictionary<string, int>();
        int operation = 0;
        try
        {
            using var run = new Run(seed, pageTokens);
            for (; operation < 60_000; operation++)
            {
                string kind = run.Operate();
                done[kind] = done.GetValueOrDefault(kind) + 1;
                run.Check();
            }
        }
        catch (Exception e)
        {
            throw new InvalidOperationException($"seed {seed}, page tokens {pageTokens}, operation {operation}", e);
        }

        Assert.All(
            ["open", "open refused", "append", "free", "fork", "pin", "unpin", "cut", "evict", "reset", "reset refused", "decay", "truncate", "over-release"],
            kind => Assert.True(done.GetValueOrDefault(kind) > 20, $"seed {seed}: {kind} ran {done.GetValueOrDefault(kind)} times"));
    }

    private sealed class Run : IDisposable
    {
        private readonly Random _random;
        private readonly Clock _clock = new();
        private readonly BlockIndex _index;
        private readonly BlockHash[] _roots = [Root, new PrefixNamespace { Tenant = "b" }.ToHash()];
        private readonly List<(IndexedTable Table, int Root)> _live = [];
        private readonly List<int[]> _pins = [];
        private readonly Dictionary<int, (BlockHash Hash, int[] Tokens)> _sealed = [];
        private readonly HashSet<BlockHash> _known = [];
        private readonly int _p;

        public Run(int seed, int pageTokens)
        {
            (_random, _p) = (new Random(seed), pageTokens);
            _index = Of(Usable, pageTokens, events: true, time: _clock);
        }

        public string Operate() => _random.Next(100) switch
        {
            < 34 => Open(),
            < 46 => Append(),
            < 66 => Free(),
            < 72 => Fork(),
            < 77 => Pin(),
            < 82 => Unpin(),
            < 87 => Cut(),
            < 90 => Evict(),
            < 93 => Reset(),
            < 96 => Truncate(),
            < 98 => OverRelease(),
            _ => Decay(),
        };

        public void Check()
        {
            var references = new int[Usable + 1];
            foreach (int block in _live.SelectMany(l => l.Table.Blocks).Concat(_pins.SelectMany(p => p)))
            {
                references[block]++;
            }

            int[] free = _index.FreeOrder();
            Assert.False(_index.TryAllocate([], new int[free.Length + 1]), "more blocks than are free");
            Assert.Equal(free.Length, free.Distinct().Count());
            Assert.Equal(Usable, free.Length + references.Skip(1).Count(r => r > 0));
            var isFree = new bool[Usable + 1];
            Array.ForEach(free, block => isFree[block] = true);
            int lastPriority = -1;
            foreach (int block in free)
            {
                int priority = _index[block].Hash.IsNull ? -1 : _index.PriorityOf(block);
                Assert.True(priority >= lastPriority, "unhashed blocks first, then by priority");
                lastPriority = priority;
            }

            for (int block = 1; block <= Usable; block++)
            {
                Assert.Equal(references[block], _index[block].References);
                Assert.Equal(references[block] == 0, isFree[block]);
                CheckSealed(block);
            }

            CheckEvents();
        }

        public void Dispose() => _index.Dispose();

        // A hash may go, but under one hash the tokens never change.
        private void CheckSealed(int block)
        {
            BlockHash hash = _index[block].Hash;
            if (hash.IsNull)
            {
                _sealed.Remove(block);
            }
            else if (_sealed.TryGetValue(block, out (BlockHash Hash, int[] Tokens) before) && before.Hash == hash)
            {
                Assert.True(_index.TokensOf(block).SequenceEqual(before.Tokens), "a hashed block is immutable");
            }
            else
            {
                Assert.Equal(hash, BlockHash.Next(_index[block].Parent, _index.TokensOf(block)));
                _sealed[block] = (hash, _index.TokensOf(block).ToArray());
            }
        }

        // The events tell exactly the blocks that can be hit.
        private void CheckEvents()
        {
            foreach (PrefixEvent e in _index.TakeEvents())
            {
                switch (e.Kind)
                {
                    case PrefixEventKind.Stored:
                        _known.UnionWith(e.Hashes.ToArray());
                        break;
                    case PrefixEventKind.Removed:
                        Assert.True(_known.Remove(e.Hashes.Span[0]), "removed without having been stored");
                        break;
                    default:
                        _known.Clear();
                        break;
                }
            }

            Assert.True(_known.SetEquals(_sealed.Values.Select(s => s.Hash)), "events tell what can be hit");
            Assert.All(_known, hash => Assert.NotEqual(0, _index.Find(hash)));
        }

        // Few different tokens, so that prefixes meet.
        private int[] Prompt() => [.. Enumerable.Range(0, 1 + _random.Next(6 * _p)).Select(i => (i * 4) + (_random.Next(8) == 0 ? 1 : 0))];

        private int LongestHit(int[] ids, BlockHash root)
        {
            int whole = 0;
            var hashes = new BlockHash[ids.Length / _p];
            BlockHash.Chain(root, ids, _p, hashes);
            while (whole < hashes.Length && _sealed.Values.Any(s => s.Hash == hashes[whole]))
            {
                whole++;
            }

            return whole * _p;
        }

        private string Open()
        {
            int root = _random.Next(4) == 0 ? 1 : 0;
            var table = new IndexedTable(_index, _roots[root]);
            int[] ids = Prompt();
            int expected = LongestHit(ids, _roots[root]);
            string before = _index.State();
            int free = _index.FreeCount();
            if (!table.TryOpen(ids))
            {
                Assert.True(free < (ids.Length + _p - 1) / _p, "refused although as many blocks are free");
                Assert.Equal(before, _index.State());
                return "open refused";
            }

            Assert.Equal(expected, table.Hit);
            _live.Add((table, root));
            if (_random.Next(3) == 0)
            {
                _index.SetRetention(table.Blocks[_random.Next(table.Blocks.Count)], _random.Next(101), _random.Next(2) * _random.Next(1, 20));
            }

            return "open";
        }

        private string Append()
        {
            if (_live.Count == 0)
            {
                return "none";
            }

            string before = _index.State();
            IndexedTable table = _live[_random.Next(_live.Count)].Table;
            if (table.Blocks.Count != (table.Tokens.Count + _p - 1) / _p || (table.Tokens.Count % _p != 0 && (_index[table.Blocks[^1]].References > 1 || !_index[table.Blocks[^1]].Hash.IsNull)))
            {
                return "none";
            }

            if (!table.TryAppend([.. Enumerable.Range(0, 1 + _random.Next(_p + 1)).Select(_ => _random.Next(9))]))
            {
                Assert.Equal(before, _index.State());
                return "append refused";
            }

            return "append";
        }

        private string Free()
        {
            if (_live.Count == 0)
            {
                return "none";
            }

            int i = _random.Next(_live.Count);
            if (_random.Next(4) == 0 && _live[i].Table.Tokens.Count % _p != 0 && _index[_live[i].Table.Blocks[^1]].References == 1
                && _index[_live[i].Table.Blocks[^1]].Hash.IsNull)
            {
                _live[i].Table.PublishTail();
            }

            _live[i].Table.Free();
            _live.RemoveAt(i);
            return "free";
        }

        private string Fork()
        {
            if (_live.Count is 0 or > 12)
            {
                return "none";
            }

            (IndexedTable parent, int root) = _live[_random.Next(_live.Count)];
            var fork = new IndexedTable(_index, _roots[root]);
            parent.Blocks.ForEach(_index.Hold);
            fork.Blocks.AddRange(parent.Blocks);
            fork.Tokens.AddRange(parent.Tokens);
            _live.Add((fork, root));
            return "fork";
        }

        private string Cut()
        {
            if (_live.Count == 0)
            {
                return "none";
            }

            IndexedTable table = _live[_random.Next(_live.Count)].Table;
            int keep = _random.Next(table.Blocks.Count + 1);
            _index.Release([.. table.Blocks[keep..]]);
            table.Blocks.RemoveRange(keep, table.Blocks.Count - keep);
            table.Tokens.RemoveRange(Math.Min(table.Tokens.Count, keep * _p), Math.Max(0, table.Tokens.Count - (keep * _p)));
            return "cut";
        }

        private string Pin()
        {
            int[] ids = Prompt();
            var blocks = new int[ids.Length + 1];
            int[] hits = blocks[.._index.Match(Root, ids, blocks).Blocks];
            if (hits.Length == 0 || _pins.Count > 3)
            {
                return "none";
            }

            _index.Pin(hits);
            _pins.Add(hits);
            return "pin";
        }

        private string Unpin()
        {
            if (_pins.Count == 0)
            {
                return "none";
            }

            int i = _random.Next(_pins.Count);
            _index.Unpin(_pins[i]);
            _pins.RemoveAt(i);
            return "unpin";
        }

        private string Evict()
        {
            int expected = _index.FreeOrder().FirstOrDefault(block => !_index[block].Hash.IsNull);
            Assert.Equal(expected, _index.Evict());
            return "evict";
        }

        private string Reset()
        {
            if (_random.Next(3) == 0)
            {
                while (_live.Count > 0)
                {
                    Free();
                }

                while (_pins.Count > 0)
                {
                    Unpin();
                }
            }

            string before = _index.State();
            bool expected = _index.FreeCount() == Usable;
            Assert.Equal(expected, _index.TryReset());
            Assert.True(expected || before == _index.State(), "a refused reset changes nothing");
            return expected ? "reset" : "reset refused";
        }

        private string Truncate()
        {
            int[] ids = Prompt();
            int length = _random.Next(ids.Length + 1);
            _index.TruncateBranch(Root, ids, length);
            var blocks = new int[ids.Length + 1];
            BlockMatch left = _index.Match(Root, ids, blocks);
            Assert.All(blocks[..left.Blocks].Skip((length + _p - 1) / _p), block => Assert.True(_index[block].References > 0 || _sealed.Count(s => s.Value.Hash == _index[block].Hash) > 1));
            return "truncate";
        }

        private string OverRelease()
        {
            int[] free = _index.FreeOrder();
            if (free.Length == 0)
            {
                return "none";
            }

            int[] blocks = [.. _live.Take(1).SelectMany(l => l.Table.Blocks), free[_random.Next(free.Length)]];
            string before = _index.State();
            Assert.Throws<InvalidOperationException>(() => _index.Release(blocks));
            Assert.Throws<InvalidOperationException>(() => _index.Unpin([.. _pins.Take(1).SelectMany(p => p), blocks[^1]]));
            Assert.Equal(before, _index.State());
            return "over-release";
        }

        private string Decay()
        {
            _clock.Milliseconds += _random.Next(1, 10);
            return "decay";
        }
    }
}
