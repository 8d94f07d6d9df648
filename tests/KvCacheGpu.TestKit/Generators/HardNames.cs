namespace KvCacheGpu.TestKit;

/// <summary>Names that UTF-8 cannot say, and names that look as if they were one of the others.</summary>
internal static class HardNames
{
    public static string[] IllFormed { get; } = ["org" + '\ud901', "org" + '\udd01', '\ud802' + "org", "o" + '\udfff' + '\ud800' + "g", "\ud83d\ude00" + '\ud83d'];

    public static string[] WellFormed { get; } = ["org\ufffd", "org", "\ud83d\ude00", "e\u0301", "\u00e9", " org", "org\0", "", "ORG"];
}
