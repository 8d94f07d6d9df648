using System.Globalization;
using System.Text;

namespace KvCacheGpu.Import;

/// <summary>Visits the values of a file, from the root down, without recursion.</summary>
internal static class PickleWalk
{
    /// <summary>The tensors with their paths.</summary>
    public static List<NamedTensor> Tensors(PickleValue root)
    {
        List<NamedTensor> tensors = [];
        long characters = 0;
        foreach ((StringBuilder path, PickleValue leaf) in Leaves(root))
        {
            if (leaf is TensorValue value)
            {
                ReadBudget.Check("paths", characters += path.Length, ReadBudget.TextCharacters, null);
                tensors.Add(new NamedTensor(path.ToString(), value.Tensor!));
            }
        }

        return tensors;
    }

    /// <summary>Every value that is no list, tuple or dict, with its path. The path changes with the next value.</summary>
    public static IEnumerable<(StringBuilder Path, PickleValue Leaf)> Leaves(PickleValue root)
    {
        StringBuilder path = new();
        Stack<(IEnumerator<(string? Key, PickleValue Value)> Children, int Length)> open = new();
        if (Children(root) is { } first)
        {
            open.Push((first, 0));
        }
        else
        {
            yield return (path, root);
        }

        while (open.TryPeek(out var level))
        {
            path.Length = level.Length;
            if (!level.Children.MoveNext())
            {
                open.Pop();
                continue;
            }

            (string? key, PickleValue value) = level.Children.Current;
            path.Append('/').Append(key);
            if (Children(value) is { } children)
            {
                open.Push((children, path.Length));
            }
            else
            {
                yield return (path, value);
            }
        }
    }

    private static IEnumerator<(string?, PickleValue)>? Children(PickleValue value) => value switch
    {
        DictValue dict => dict.Items.Select(item => ((string?)PickleKeys.Text(item.Key), item.Value)).GetEnumerator(),
        ListValue list => list.Items.Select((item, i) => ((string?)i.ToString(CultureInfo.InvariantCulture), item)).GetEnumerator(),
        TupleValue tuple => tuple.Items.Select((item, i) => ((string?)i.ToString(CultureInfo.InvariantCulture), item)).GetEnumerator(),
        _ => null,
    };
}
