using System.Text;

namespace KvCacheGpu.Cli;

/// <summary>
/// Makes the conversations of a load: what is asked, turn by turn, and how long the answers may be. Texts are frequent words of English, drawn by the seed, so that any server can be asked.
/// </summary>
internal sealed class LoadMix
{
    /// <summary>Names of the mixes.</summary>
    public static readonly string[] Names = ["shared-prefix", "multi-turn", "long"];

    private const string Words =
        "the of and to in he shall unto for i his a lord they be is him not them it with all thou thy was god which my me said but ye their have thee will from as are when this out were by upon man " +
        "you israel king son up there people came had house into on her come one we children before your also day land men let go no made hand us saying if at every these because then against " +
        "each every great hath what even so over good who made now how went time may way earth things name give heart word work life water place years bread city light night fire gold";

    private static readonly string[] _words = Words.Split(' ');

    private readonly string _name;
    private readonly int _scale;
    private readonly string _shared;

    /// <summary>Makes a mix.</summary>
    /// <param name="name">One of <see cref="Names"/>.</param>
    /// <param name="longest">About the most words of a prompt and its answer together; every length follows from it.</param>
    /// <param name="seed">The same seed gives the same texts.</param>
    public LoadMix(string name, int longest, int seed)
    {
        (_name, _scale) = (name, longest);
        _shared = Text(new Random(seed), longest / 2);
    }

    /// <summary>The turns of a conversation.</summary>
    /// <param name="seed">Another one for each conversation.</param>
    public IEnumerable<LoadTurn> Conversation(int seed)
    {
        Random random = new(seed);
        return _name switch
        {
            "shared-prefix" => [new LoadTurn($"{_shared} {Text(random, Between(random, 5, 30))}", Between(random, 8, 48), KeepsHistory: false)],
            "multi-turn" => Enumerable.Range(0, 4).Select(_ => new LoadTurn(Text(random, _scale / 10), Between(random, 8, _scale / 10), KeepsHistory: true)).ToArray(),
            _ => [new LoadTurn(Text(random, Between(random, _scale / 4, _scale * 3 / 4)), Between(random, 8, 48), KeepsHistory: false)],
        };
    }

    private static int Between(Random random, int least, int most) => random.Next(least, Math.Max(most, least) + 1);

    private static string Text(Random random, int words)
    {
        StringBuilder text = new();
        for (int i = 0; i < words; i++)
        {
            text.Append(i == 0 ? "" : " ").Append(_words[random.Next(_words.Length)]);
        }

        return text.ToString();
    }
}

/// <summary>One request of a conversation.</summary>
/// <param name="Text">What is asked.</param>
/// <param name="NewTokens">The most tokens of the answer.</param>
/// <param name="KeepsHistory">True if what was said before comes first.</param>
internal sealed record LoadTurn(string Text, int NewTokens, bool KeepsHistory);
