using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>A <see cref="KvTensor"/> in host memory, pinned for the time of a launch.</summary>
internal unsafe struct HostTensor
{
    private byte* _elements;
    private TensorType _type;
    private int _elementBytes;
    private long _tokenStride;
    private long _headStride;

    public static HostTensor Pin(byte* elements, KvTensor tensor, int heads, int width)
    {
        long headStride = tensor.HeadStride == 0 ? width : tensor.HeadStride;
        return new HostTensor
        {
            _elements = elements,
            _type = tensor.Type,
            _elementBytes = tensor.ElementBytes,
            _headStride = headStride,
            _tokenStride = tensor.TokenStride == 0 ? heads * headStride : tensor.TokenStride,
        };
    }

    /// <summary>One vector where it lies, if it lies in floats; else null.</summary>
    public readonly float* Floats(int token, int head) =>
        _type == TensorType.F32 ? (float*)_elements + (token * _tokenStride) + (head * _headStride) : null;

    /// <summary>Copies one vector, widened, to <paramref name="target"/>; <paramref name="step"/> floats from element to element.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public readonly void Read(int token, int head, int width, float* target, int step = 1)
    {
        byte* from = _elements + (((token * _tokenStride) + (head * _headStride)) * _elementBytes);
        switch (_type)
        {
            case TensorType.F32:
                if (step == 1)
                {
                    new Span<float>(from, width).CopyTo(new Span<float>(target, width));
                    break;
                }

                for (int i = 0; i < width; i++)
                {
                    target[i * step] = ((float*)from)[i];
                }

                break;
            case TensorType.F16:
                for (int i = 0; i < width; i++)
                {
                    target[i * step] = (float)((Half*)from)[i];
                }

                break;
            default:
                for (int i = 0; i < width; i++)
                {
                    target[i * step] = BitConverter.UInt32BitsToSingle((uint)((ushort*)from)[i] << 16);
                }

                break;
        }
    }
}
