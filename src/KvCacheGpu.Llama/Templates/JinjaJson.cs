using System.Text;

namespace KvCacheGpu.Llama;

/// <summary>The filter <c>tojson</c> as transformers has it: Python's <c>json.dumps(value, ensure_ascii=False, indent=...)</c>.</summary>
/// <param name="context">The rendering.</param>
/// <param name="indent">Spaces by which what is nested is moved; null for all on one line.</param>
internal sealed class JinjaJson(JinjaContext context, int? indent)
{
    private const int MostNested = 64;

    private readonly StringBuilder _json = new();

    /// <summary>The JSON of a value.</summary>
    public string Write(object value)
    {
        Append(value, 0);
        return _json.ToString();
    }

    private void Append(object value, int nested)
    {
        context.Spend(1);
        switch (value)
        {
            case bool truth:
                _json.Append(truth ? "true" : "false");
                break;
            case long:
                _json.Append(JinjaOperators.Text(value));
                break;
            case JinjaNone:
                _json.Append("null");
                break;
            case string text:
                context.Spend(text.Length);
                PythonText.Quote(_json, text);
                break;
            case JinjaList list when nested < MostNested:
                Items('[', ']', list.Items.Count, nested, i => Append(list.Items[i], nested + 1));
                break;
            case JinjaDict dict when nested < MostNested:
                Items('{', '}', dict.Items.Count, nested, i =>
                {
                    (string key, object item) = dict.Items.GetAt(i);
                    PythonText.Quote(_json, key);
                    _json.Append(": ");
                    Append(item, nested + 1);
                });
                break;
            default:
                throw new JinjaException($"JSON of {JinjaOperators.Kind(value)}");
        }

        context.Check(_json.Length);
    }

    private void Items(char open, char close, int count, int nested, Action<int> item)
    {
        _json.Append(open);
        for (int i = 0; i < count; i++)
        {
            _json.Append(i == 0 ? string.Empty : indent is null ? ", " : ",");
            Line(nested + 1);
            item(i);
        }

        if (count > 0)
        {
            Line(nested);
        }

        _json.Append(close);
    }

    private void Line(int nested)
    {
        if (indent is { } spaces)
        {
            context.Spend(spaces * nested);
            _json.Append('\n').Append(' ', spaces * nested);
        }
    }
}
