using Scriban;
using Scriban.Syntax;

namespace KvCacheGpu.Llama;

/// <summary>An expression of Jinja as a node of Scriban's tree. Scriban's own operators convert their operands, as Python's do not.</summary>
internal sealed class JinjaNode : ScriptExpression
{
    // Evaluating a node takes stack, so that a tree may not be high.
    private const int MostHeight = 200;

    private readonly int _line;
    private readonly int _height;
    private readonly Func<JinjaContext, object?> _value;

    /// <summary>Makes a node.</summary>
    /// <param name="line">The template's line, from 1.</param>
    /// <param name="children">The nodes that it evaluates.</param>
    /// <param name="value">Evaluates it.</param>
    /// <exception cref="JinjaException">The expression is too long.</exception>
    public JinjaNode(int line, IEnumerable<JinjaNode?> children, Func<JinjaContext, object?> value)
    {
        (_line, _value) = (line, value);
        _height = 1 + children.Max(c => c?._height) ?? 1;
        if (_height > MostHeight)
        {
            throw new JinjaException("an expression of too many parts", line);
        }
    }

    /// <summary>A node that stands for a value.</summary>
    public JinjaNode(int line, object constant)
        : this(line, [], _ => constant) => Constant = constant;

    /// <summary>The value, if it is written in the template.</summary>
    public object? Constant { get; }

    /// <summary>The value.</summary>
    /// <exception cref="JinjaException">It has none in Python, or it is not supported.</exception>
    public object Of(JinjaContext context) => Run(context)!;

    /// <inheritdoc/>
    public override object? Evaluate(TemplateContext context) => Run((JinjaContext)context);

    /// <inheritdoc/>
    public override void PrintTo(ScriptPrinter printer) => printer.Write($"(line {_line})");

    private object? Run(JinjaContext context)
    {
        try
        {
            context.Spend(1);
            return _value(context);
        }
        catch (JinjaException error) when (error.Line == 0)
        {
            error.Line = _line;
            throw;
        }
    }
}
