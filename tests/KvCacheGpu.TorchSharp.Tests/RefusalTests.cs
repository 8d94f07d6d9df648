using TorchSharp;
using static TorchSharp.torch;

namespace KvCacheGpu.TorchSharp.Tests;

/// <summary>What cannot be read is refused by a typed error that names it, before anything is written.</summary>
public class RefusalTests
{
    [TorchFact]
    public void A_disposed_tensor_throws_and_nothing_is_written()
    {
        using KvCache cache = TestTorch.ExactCache(new KvGeometry(1, 4, 2, 16));
        using KvSequence sequence = cache.CreateSequence();
        using Tensor k = zeros(3, 2, 16), v = zeros(3, 2, 16), q = zeros(3, 4, 16);
        Tensor disposed = zeros(3, 2, 16), disposedQueries = zeros(3, 4, 16);
        disposed.Dispose();
        disposedQueries.Dispose();
        using KvStep step = sequence.Begin(new int[3]);
        Assert.Throws<ObjectDisposedException>(() => { disposed.AsKvTensor(); });
        Assert.Throws<ObjectDisposedException>(() => step.Append(0, disposed, v));
        Assert.Throws<ObjectDisposedException>(() => step.Append(0, k, disposed));
        step.Append(0, k, v); // The layer's turn has not passed.
        Assert.Throws<ObjectDisposedException>(() => step.Attend(0, disposedQueries));
        Assert.Throws<ObjectDisposedException>(() => step.Attend(0, q, disposedQueries));
        step.Commit();
        Assert.Equal(3, sequence.Length);
    }

    [TorchFact]
    public void Tensors_that_cannot_be_read_say_why()
    {
        using DisposeScope scope = NewDisposeScope();
        using KvCache cache = TestTorch.ExactCache(new KvGeometry(1, 4, 2, 16));
        using KvSequence sequence = cache.CreateSequence();
        using KvStep step = sequence.Begin(new int[3]);
        Tensor good = zeros(3, 2, 16);
        (Tensor Given, string Says)[] refused =
        [
            (zeros(3, 2, 16, ScalarType.Float64), "float32, float16 or bfloat16, got Float64"),
            (zeros(3, 2, 16, ScalarType.Int64), "got Int64"),
            (quantize_per_tensor(zeros(3, 2, 16), 0.1, 0, ScalarType.QInt8), "got QInt8"),
            (zeros(3, 2, 16).to_sparse(), "sparse"),
            (zeros(3, 2, 16, requires_grad: true), "no_grad"),
            (zeros(3, 2, 16, device: new Device(DeviceType.META)), "on cpu or cuda, got one on meta"),
            (zeros(3, 32), "[tokens, heads, width]"),
            (zeros([1, 1, 3, 2, 16]), "[tokens, heads, width]"),
            (zeros(0, 2, 16), "none of them 0"),
            (zeros(2, 3, 16), "expected [3, 2, 16], got [2, 3, 16]"),
            (zeros(1, 3, 2, 16), "expected [batch, 2, tokens, 16] of 3 tokens in all, got [1, 3, 2, 16]"),
            (zeros(3, 2, 8), "got [3, 2, 8]"),
            (zeros(4, 2, 16), "got [4, 2, 16]"),
            (zeros(2, 2, 3, 16), "of 3 tokens in all, got [2, 2, 3, 16]"),
        ];
        foreach ((Tensor given, string says) in refused)
        {
            Assert.Contains(says, Assert.ThrowsAny<ArgumentException>(() => step.Append(0, given, good)).Message, StringComparison.Ordinal);
            Assert.Contains(says, Assert.ThrowsAny<ArgumentException>(() => step.Append(0, good, given)).Message, StringComparison.Ordinal);
        }

        step.Append(0, good, good);
        Assert.ThrowsAny<ArgumentException>(() => step.Attend(0, zeros(3, 2, 16)));
        Assert.ThrowsAny<ArgumentException>(() => step.Attend(0, zeros(3, 4, 16), zeros(4, 4, 16)));
        Assert.ThrowsAny<ArgumentException>(() => step.Attend(0, zeros(3, 4, 16), zeros(1, 4, 3, 16)));
        Assert.Throws<KvStepOrderException>(() => step.Append(0, good, good));
    }

    [TorchFact]
    public void A_description_copies_nothing_and_refuses_what_would_need_a_copy()
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor wide = TestTorch.Random(1, ScalarType.Float32, 6, 3, 24);
        Tensor slice = wide.narrow(0, 2, 4).narrow(1, 1, 2).narrow(2, 4, 16);
        KvTensor described = slice.AsKvTensor();
        Assert.Equal((72, 24, false, TensorType.F32), (described.TokenStride, described.HeadStride, described.IsOnDevice, described.Type));
        Assert.Equal((3 * 72) + 24 + 16, described.Length);
        described.ThrowIfNotShaped(4, 2, 16, "slice");
        wide[2, 1, 4] = 1234.5f; // Seen through the description: it is the same memory.
        Assert.Equal(1234.5f, System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(described.Host)[0]);
        Assert.Equal(TensorType.BF16, zeros(1, 2, 3, 16, ScalarType.BFloat16).AsKvTensor().Type);
        Assert.Equal(TensorType.F16, zeros(1, 2, 3, 16, ScalarType.Float16).AsKvTensor().Type);
        foreach (Tensor strided in new[] { wide.transpose(0, 2), zeros(4, 1, 16).expand(4, 2, 16), zeros(1, 2, 16).expand(4, 2, 16), zeros(2, 2, 3, 16) })
        {
            Assert.Contains("contiguous()", Assert.Throws<ArgumentException>(() => { strided.AsKvTensor(); }).Message, StringComparison.Ordinal);
        }

        GC.KeepAlive(wide);
    }
}
