using System.Reflection;

namespace KvCacheGpu.Tests;

/// <summary>One public method, called on objects that another thread uses at the same time.</summary>
/// <param name="Method">"KvSequence.Pin(Int32, Int32)", as <see cref="NameOf"/> says it.</param>
/// <param name="Run">The call. What the host itself must hold to, as to dispose what it was given, is in it.</param>
/// <param name="Allowed">Exceptions that the method's documentation names for such company.</param>
internal sealed record PublicCall(string Method, Action<SharedObjects> Run, params Type[] Allowed)
{
    /// <summary>Types whose every public method is called.</summary>
    public static IReadOnlyList<Type> Types { get; } =
        [typeof(KvCache), typeof(KvSequence), typeof(KvSequencePages), typeof(KvSequenceReading), typeof(KvCacheReading), typeof(KvCachePrefixes), typeof(KvCacheTiers), typeof(KvCacheOffload), typeof(KvCacheSwapping), typeof(KvAdmission), typeof(KvCacheTenants), typeof(KvCacheSnapshots), typeof(KvStep), typeof(UltraAdaptiveKvCacheEngine), typeof(SnapshotStore)];

    public static IEnumerable<string> Methods =>
        Types.SelectMany(type => type.GetMethods(BindingFlags.Public | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly)).Select(NameOf);

    public static string NameOf(MethodInfo method) =>
        $"{method.DeclaringType!.Name}.{method.Name}({string.Join(", ", method.GetParameters().Select(p => p.ParameterType.Name.Split('`')[0].TrimEnd('&')))})";

    /// <summary>Calls it and says what went wrong, if anything.</summary>
    public Exception? RunOnce(SharedObjects on)
    {
        Exception? thrown = Record.Exception(() => Run(on));
        return thrown is null || Array.Exists(Allowed, type => type.IsInstanceOfType(thrown)) ? null : thrown;
    }

    /// <summary>True if what it is called on is gone then.</summary>
    public bool Ends => Method.Contains("Dispose", StringComparison.Ordinal) || Method.Contains("Clear(", StringComparison.Ordinal);

    public override string ToString() => Method;
}
