namespace KvCacheGpu.TestKit;

/// <summary>I8 of one rotated vector in binary32, with the operations that the format defines.</summary>
public static class Int8Oracle
{
    /// <summary>Codes as bytes, and the scale.</summary>
    public static (uint[] Codes, Half[] Scales) Encode(float[] rotated)
    {
        Half scale = Round16.Up(rotated.Max(MathF.Abs) / 127f);
        float inverse = 1f / (float)scale;
        return ([.. rotated.Select(y => (uint)(byte)(sbyte)MathF.Round(Math.Clamp(y * inverse, -127f, 127f), MidpointRounding.ToEven))], [scale]);
    }
}
