using static TorchSharp.torch;

namespace KvCacheGpu;

/// <summary>
/// Torch tensors as keys, values, queries and outputs of a cache.
/// </summary>
/// <remarks>
/// <para>
/// Shapes: <c>[tokens, heads, width]</c>, or <c>[batch, heads, tokens, width]</c> as models with a batch dimension have it; the batch dimension counts the
/// sequences of the step, each with as many tokens. Types: float32, float16, bfloat16. Devices: cpu, and cuda where the cache lies on the same GPU.
/// </para>
/// <para>
/// Tensors are read where they lie, at any stride of tokens and heads: slices and <c>view(...).transpose(1, 2)</c> cost nothing. Others, such as expanded ones or
/// those whose vectors are not dense, are copied once, by torch.
/// </para>
/// <para>
/// On cuda nothing waits: the work is enqueued on the step's stream. TorchSharp works on CUDA's default stream, and so do steps unless the host names another one:
/// what torch wrote before is read, and what torch enqueues later sees the output. A step on another stream still reads what torch wrote before, but torch does not
/// wait for its output, and gives the memory of a disposed tensor to its own later work: there, use outputs and dispose tensors after <see cref="KvStep.Commit"/>.
/// </para>
/// <para>
/// A tensor that requires gradients is refused (<see cref="ArgumentException"/>): call these inside of <c>torch.no_grad()</c>. A disposed one throws
/// <see cref="ObjectDisposedException"/>. Nothing is written in either case.
/// </para>
/// </remarks>
public static class KvTorchExtensions
{
    /// <summary>Describes a tensor to the cache, without a copy.</summary>
    /// <param name="tensor">
    /// The tensor. It must stay alive and unchanged until the call that reads the description has ended; on cuda, until the step has. The description
    /// does not hold it: end with <c>GC.KeepAlive(tensor)</c> or <c>tensor.Dispose()</c>.
    /// </param>
    /// <param name="stream">The stream that writes a tensor on cuda. The default value is CUDA's default stream, on which torch works.</param>
    /// <exception cref="ObjectDisposedException">The tensor was disposed.</exception>
    /// <exception cref="ArgumentException">Another type, shape or device, a gradient, or elements at strides that cannot be described: take <c>contiguous()</c> of it.</exception>
    public static KvTensor AsKvTensor(this Tensor tensor, KvStream stream = default)
    {
        var layout = TorchLayout.Of(tensor, nameof(tensor));
        return layout.IsReadable
            ? layout.Wrap(tensor, stream)
            : throw TorchLayout.Refused(nameof(tensor), "dense vectors at one stride from token to token (take contiguous())", $"strides [{string.Join(", ", tensor.stride())}]");
    }

    /// <summary>Writes a layer's keys and values into the cache. See <see cref="KvStep.Append"/>.</summary>
    /// <param name="step">The step.</param>
    /// <param name="layer">Layer, 0 first.</param>
    /// <param name="keys"><c>[tokens, KV heads, key width]</c> or <c>[batch, KV heads, tokens, key width]</c>; roped by the host.</param>
    /// <param name="values"><c>[tokens, KV heads, value width]</c> or <c>[batch, KV heads, tokens, value width]</c>.</param>
    /// <exception cref="ObjectDisposedException">A tensor was disposed, or the step has ended.</exception>
    /// <exception cref="ArgumentException">A tensor of another shape, type or device, or one that requires gradients.</exception>
    /// <exception cref="KvStepOrderException">E010: not the layer's turn.</exception>
    /// <exception cref="KvUnsupportedException">E009: a tensor on cuda where pages live in host memory.</exception>
    public static void Append(this KvStep step, int layer, Tensor keys, Tensor values)
    {
        using var k = new TorchInput(keys, nameof(keys));
        using var v = new TorchInput(values, nameof(values));
        ThrowIfOtherShape(k.Given, step.Tokens, step.Geometry.KvHeads, step.Geometry.KeyWidth, nameof(keys));
        ThrowIfOtherShape(v.Given, step.Tokens, step.Geometry.KvHeads, step.Geometry.ValueWidth, nameof(values));
        step.Append(layer, k.Tensor, v.Tensor);
    }

    /// <summary>Causal attention over everything resident in a layer and the step's own tokens. See <see cref="KvStep.Attend"/>.</summary>
    /// <param name="step">The step.</param>
    /// <param name="layer">A layer that this step has appended.</param>
    /// <param name="queries"><c>[tokens, query heads, key width]</c> or <c>[batch, query heads, tokens, key width]</c>; roped by the host, not scaled.</param>
    /// <param name="window">A token sees itself and the <c>window - 1</c> positions before it. The default value is 0: all before it.</param>
    /// <returns>
    /// A new tensor of the queries' layout, type and device, with the value width; the caller's to dispose, or its dispose scope's. Its elements lie token by
    /// token, so that <c>transpose(1, 2)</c> of a batched one is contiguous.
    /// </returns>
    /// <inheritdoc cref="Append" path="/exception"/>
    public static Tensor Attend(this KvStep step, int layer, Tensor queries, int window = 0)
    {
        using var q = new TorchInput(queries, nameof(queries));
        ThrowIfOtherShape(q.Given, step.Tokens, step.Geometry.QueryHeads, step.Geometry.KeyWidth, nameof(queries));
        Tensor output = TorchOutput.Dense(queries, q.Given, q.Given.Tokens, step.Geometry.ValueWidth);
        try
        {
            step.Attend(layer, q.Tensor, TorchOutput.Wrap(output, q.Given), window);
        }
        catch
        {
            output.Dispose();
            throw;
        }

        return TorchOutput.InLayout(output, q.Given);
    }

    /// <summary>Causal attention into a tensor of the host's. See <see cref="Attend(KvStep, int, Tensor, int)"/>.</summary>
    /// <param name="step">The step.</param>
    /// <param name="layer">A layer that this step has appended.</param>
    /// <param name="queries"><c>[tokens, query heads, key width]</c> or <c>[batch, query heads, tokens, key width]</c>; roped by the host, not scaled.</param>
    /// <param name="output">
    /// Receives the output: the shape of the queries but for the value width, float32, float16 or bfloat16, on the queries' device. It is written in
    /// place where its elements lie token by token: contiguous <c>[tokens, heads, width]</c>, or <c>[batch, heads, tokens, width]</c> whose <c>transpose(1, 2)</c> is
    /// contiguous. Any other takes a copy.
    /// </param>
    /// <param name="window">A token sees itself and the <c>window - 1</c> positions before it. The default value is 0: all before it.</param>
    /// <inheritdoc cref="Append" path="/exception"/>
    public static void Attend(this KvStep step, int layer, Tensor queries, Tensor output, int window = 0)
    {
        using var q = new TorchInput(queries, nameof(queries));
        ThrowIfOtherShape(q.Given, step.Tokens, step.Geometry.QueryHeads, step.Geometry.KeyWidth, nameof(queries));
        var layout = TorchLayout.Of(output, nameof(output));
        ThrowIfOtherShape(layout, step.Tokens, step.Geometry.QueryHeads, step.Geometry.ValueWidth, nameof(output));
        if (layout.IsBatched != q.Given.IsBatched || layout.Batch != q.Given.Batch || layout.Tokens != q.Given.Tokens || layout.IsOnCuda != q.Given.IsOnCuda)
        {
            throw TorchLayout.Refused(
                nameof(output), $"tokens and device of the queries, [{string.Join(", ", queries.shape)}] on {queries.device}", $"[{string.Join(", ", output.shape)}] on {output.device}");
        }

        if (layout.IsDense)
        {
            step.Attend(layer, q.Tensor, TorchOutput.Wrap(output, layout), window);
        }
        else
        {
            using Tensor dense = TorchOutput.Dense(output, layout, layout.Tokens, layout.Width);
            step.Attend(layer, q.Tensor, TorchOutput.Wrap(dense, layout), window);
            using Tensor shown = layout.IsBatched ? dense.transpose(1, 2) : dense.alias();
            output.copy_(shown);
        }

        GC.KeepAlive(output);
    }

    // The engine counts elements, from the first one to the last: a transposed tensor has as many.
    private static void ThrowIfOtherShape(in TorchLayout layout, int tokens, int heads, int width, string name)
    {
        if (layout.Batch * layout.Tokens == tokens && layout.Heads == heads && layout.Width == width)
        {
            return;
        }

        throw layout.IsBatched
            ? TorchLayout.Refused(
                name, $"[batch, {heads}, tokens, {width}] of {tokens} tokens in all", $"[{layout.Batch}, {layout.Heads}, {layout.Tokens}, {layout.Width}]")
            : TorchLayout.Refused(name, $"[{tokens}, {heads}, {width}]", $"[{layout.Tokens}, {layout.Heads}, {layout.Width}]");
    }
}
