namespace KvCacheGpu.Import;

/// <summary>A sequence to be written.</summary>
/// <param name="Name">Its key in the file's dict.</param>
/// <param name="Tokens">Its tokens.</param>
/// <param name="Read">Gives keys and values of some tokens of a layer.</param>
public sealed record TorchSequence(string Name, int Tokens, TorchLayerReader Read);

/// <summary>Gives keys and values of some tokens of a layer.</summary>
/// <param name="layer">Layer.</param>
/// <param name="firstToken">First token.</param>
/// <param name="tokens">How many.</param>
/// <param name="keys">Receives <c>[tokens][heads][key width]</c>.</param>
/// <param name="values">Receives <c>[tokens][heads][value width]</c>.</param>
public delegate void TorchLayerReader(int layer, int firstToken, int tokens, Span<float> keys, Span<float> values);
