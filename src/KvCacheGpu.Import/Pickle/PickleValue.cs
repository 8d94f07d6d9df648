namespace KvCacheGpu.Import;

/// <summary>A value that a stream made: one of the sealed types of this file and of ContainerValues.cs. Its depth and size are kept with it, so that no code must recurse to find them.</summary>
internal abstract class PickleValue
{
    /// <summary>Number of containers from here to the deepest value within; 0 for a value that is no container.</summary>
    public int Depth { get; protected set; }

    /// <summary>Number of values within, each counted wherever it occurs, and this one.</summary>
    public long Weight { get; protected set; } = 1;

    /// <summary>True if it is a tensor or a storage, or holds one: such a value must not be left out.</summary>
    public bool HoldsTensor { get; protected set; }

    /// <summary>Number of tensors within, each counted wherever it occurs: a stream may make one and name it a million times.</summary>
    public virtual long Tensors => 0;

    /// <summary>Bytes of those tensors' elements, counted in the same way.</summary>
    public virtual Int128 TensorBytes => 0;

    /// <summary>True if a container holds it. From then on it must not change, so that depth and weight stay true and no cycle can close.</summary>
    public bool IsHeld { get; set; }
}

/// <summary>None.</summary>
internal sealed class NoneValue : PickleValue;

/// <summary>True or False.</summary>
internal sealed class BoolValue(bool value) : PickleValue
{
    public bool Value { get; } = value;
}

/// <summary>An integer of up to 16 bytes.</summary>
internal sealed class IntegerValue(Int128 value) : PickleValue
{
    public Int128 Value { get; } = value;
}

/// <summary>A binary64.</summary>
internal sealed class FloatValue(double value) : PickleValue
{
    public double Value { get; } = value;
}

/// <summary>A text.</summary>
internal sealed class TextValue(string value) : PickleValue
{
    private int? _hash;
    private bool? _isLatin1;

    public string Value { get; } = value;

    /// <summary>Computed once: a stream may use one long text as a key a million times.</summary>
    public int Hash => _hash ??= Value.GetHashCode(StringComparison.Ordinal);

    /// <summary>True if every character is a byte of Latin-1.</summary>
    public bool IsLatin1 => _isLatin1 ??= !Value.AsSpan().ContainsAnyExceptInRange('\0', '\u00ff');
}

/// <summary>A byte string: the place of its bytes, which are read later.</summary>
internal sealed class BytesValue(ByteSource bytes) : PickleValue
{
    public ByteSource Bytes { get; } = bytes;
}

/// <summary>A global: the kind that its name stands for, and the element type if it names one.</summary>
internal sealed class GlobalValue(PickleGlobal global, string name, ElementType? type) : PickleValue
{
    public PickleGlobal Global { get; } = global;

    public string Name { get; } = name;

    public ElementType? Type { get; } = type;
}

/// <summary>A torch.device or a layout: the place and form that a tensor had. Neither is used here.</summary>
internal sealed class InertValue : PickleValue;

/// <summary>numpy's dtype.</summary>
internal sealed class DtypeValue(ElementType type) : PickleValue
{
    public ElementType Type { get; } = type;

    public bool IsBigEndian { get; set; }

    public bool IsBuilt { get; set; }
}

/// <summary>A storage of torch.</summary>
internal sealed class StorageValue : PickleValue
{
    public StorageValue(Storage root, long offset, long elements) => (Root, Offset, Elements, HoldsTensor) = (root, offset, elements, true);

    public Storage Root { get; }

    /// <summary>Index of the first element within the root.</summary>
    public long Offset { get; }

    public long Elements { get; }
}

/// <summary>A tensor of torch or an array of numpy; the latter has no content until its BUILD.</summary>
internal sealed class TensorValue : PickleValue
{
    public TensorValue(ImportTensor? tensor) => (Tensor, HoldsTensor) = (tensor, true);

    public ImportTensor? Tensor { get; set; }

    public override long Tensors => 1;

    public override Int128 TensorBytes => Tensor is { } made ? (Int128)made.Count * made.Type.Bytes() : 0;
}
