namespace KvCacheGpu.Llama;

internal enum SimdLevel
{
    Auto,
    Scalar,
    Vector256,
    Vector512,
}
