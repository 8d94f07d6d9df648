using Scriban;
using Scriban.Parsing;
using Scriban.Runtime;
using Scriban.Syntax;

namespace KvCacheGpu.Llama;

/// <summary>One rendering: the values of names, what was written, and how much work is left. It shows a template no member of .NET and none of Scriban's functions.</summary>
internal sealed class JinjaContext : TemplateContext
{
    private const int LeastSteps = 1 << 22;
    private const int LeastLetters = 1 << 20;
    private const int StepsPerLetter = 64;
    private const int LettersPerLetter = 16;

    private readonly long _mostLetters;
    private long _steps;

    /// <summary>Begins a rendering.</summary>
    /// <param name="names">The values of names.</param>
    /// <param name="letters">Letters of the conversation, from which limits follow.</param>
    /// <param name="clock">The clock of strftime_now; null if there is none.</param>
    public JinjaContext(ScriptObject names, long letters, TimeProvider? clock)
        : base(new ScriptObject())
    {
        (Clock, AutoIndent, LoopLimit, LimitToString) = (clock, false, 0, 0);
        _steps = LeastSteps + (StepsPerLetter * letters);
        _mostLetters = Math.Min(LeastLetters + (LettersPerLetter * letters), int.MaxValue / 4);
        PushGlobal(names);
    }

    /// <summary>The clock of strftime_now.</summary>
    public TimeProvider? Clock { get; }

    /// <summary>Takes work from what is left. One step is about a letter or an operator.</summary>
    /// <exception cref="JinjaException">None is left.</exception>
    public void Spend(long steps)
    {
        _steps -= steps;
        if (_steps < 0)
        {
            throw new JinjaException("more work than a chat template may take");
        }
    }

    /// <summary>Refuses a text that is too long.</summary>
    public void Check(long letters)
    {
        if (letters > _mostLetters)
        {
            throw new JinjaException($"a text of more than {_mostLetters} letters");
        }
    }

    /// <summary>Two texts as one.</summary>
    public string Text(string left, string right)
    {
        long length = (long)left.Length + right.Length;
        Check(length);
        Spend(length);
        return left + right;
    }

    /// <summary>What statements write.</summary>
    public string Capture(ScriptBlockStatement statements)
    {
        PushOutput(new BoundOutput(this));
        try
        {
            statements.Evaluate(this);
            return Output.ToString()!;
        }
        finally
        {
            PopOutput();
        }
    }

    /// <inheritdoc/>
    public override bool ToBool(SourceSpan span, object? value) => value is not null && JinjaOperators.IsTrue(value);

    /// <inheritdoc/>
    protected override bool OnStepLoop(ScriptLoopStatementBase loop)
    {
        Spend(1);
        return true;
    }

    private sealed class BoundOutput(JinjaContext context) : IScriptOutput
    {
        private readonly System.Text.StringBuilder _text = new();

        public void Write(string text, int offset, int count)
        {
            context.Spend(count);
            context.Check((long)_text.Length + count);
            _text.Append(text, offset, count);
        }

        public ValueTask WriteAsync(string text, int offset, int count, CancellationToken cancellationToken)
        {
            Write(text, offset, count);
            return default;
        }

        public override string ToString() => _text.ToString();
    }
}
