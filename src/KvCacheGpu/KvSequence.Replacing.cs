namespace KvCacheGpu;

/// <content>Another key and value in a token's place.</content>
public sealed partial class KvSequence
{
    /// <summary>
    /// Puts other keys and values in the place of a token's, and leaves every other token as it is, bit for bit. All of it is checked first: refused, it
    /// has changed nothing.
    /// </summary>
    /// <param name="position">The token, 0 to <see cref="Length"/> - 1.</param>
    /// <param name="keys"><c>[layers][KV heads][key width]</c>.</param>
    /// <param name="values"><c>[layers][KV heads][value width]</c>.</param>
    /// <remarks>
    /// An open page that no one shares is written in place. A shared page, and a sealed one in full precision, never changes: a copy takes its place in
    /// this sequence alone. A page that was sealed into fewer bits holds its tokens by common scales, so that none can be replaced alone:
    /// <see cref="Truncate"/> and appending anew is the way there.
    /// </remarks>
    /// <exception cref="ArgumentException">No such token, or a tensor of another length.</exception>
    /// <exception cref="KvNonFiniteException">E004: a number that the page formats do not hold.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: no room for the copy of a page.</exception>
    /// <exception cref="KvUnsupportedException">
    /// E009: the token lies in a compressed page (the message names the first position from which tokens can be replaced), was dropped in some layer and
    /// head, or lies in a merged page; or the cache reuses prefixes, which are known by their token ids alone.
    /// </exception>
    public void Replace(int position, ReadOnlySpan<float> keys, ReadOnlySpan<float> values)
    {
        using Call call = new(this);
        new TokenReplacement(this, position, keys, values).Run();
    }
}
