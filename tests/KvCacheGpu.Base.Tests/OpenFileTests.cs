using KvCacheGpu.TestKit;

namespace KvCacheGpu.Base.Tests;

/// <summary>Replacing and removing a file: an error is reported as one only where the change was not made.</summary>
public sealed class OpenFileTests : IDisposable
{
    private static readonly byte[] Old = [1, 2, 3];
    private static readonly byte[] New = [4, 5, 6, 7];

    private readonly MemoryDisk _disk = new();
    private readonly FaultFiles _files;
    private readonly OpenFile _folder;

    public OpenFileTests()
    {
        _files = new FaultFiles(_disk);
        _files.MakeDirectory("/folder");
        _folder = new OpenFile(_files, _files.OpenDirectory("/folder"));
        Write("entry", Old);
        Write("entry.tmp", New);
    }

    public void Dispose()
    {
        _folder.Dispose();
        Assert.Equal(0, _files.OpenDescriptors);
    }

    [Fact]
    public void A_file_takes_the_place_of_another()
    {
        _folder.Replace("entry.tmp", "entry", New);
        Assert.Equal(New, Content("entry"));
        Assert.Null(_disk.Find("/folder")!.Find("entry.tmp"));
    }

    [Fact]
    public void A_rename_that_failed_is_an_error_and_cannot_take_effect_later()
    {
        Fail(1, Fault.InputOutput);
        Assert.False(Assert.Throws<FileCallException>(() => _folder.Replace("entry.tmp", "entry", New)).OutcomeUnknown);
        Assert.Equal(Old, Content("entry"));
        Assert.Null(_disk.Find("/folder")!.Find("entry.tmp"));
    }

    [Fact]
    public void A_rename_that_took_effect_and_reported_an_error_is_none()
    {
        Fail(1, Fault.Late);
        _folder.Replace("entry.tmp", "entry", New);
        Assert.Equal(New, Content("entry"));
    }

    [Theory]
    [InlineData(Fault.Dead)]
    [InlineData(Fault.LateAndDead)]
    internal void Where_nothing_can_be_read_any_more_the_outcome_is_unknown(Fault fault)
    {
        Fail(1, fault);
        Assert.True(Assert.Throws<FileCallException>(() => _folder.Replace("entry.tmp", "entry", New)).OutcomeUnknown);
        Fail(0, fault);
        Assert.Equal(fault == Fault.Dead ? Old : New, Content("entry"));
    }

    [Theory]
    [InlineData(Fault.InputOutput, false)]
    [InlineData(Fault.Late, null)]
    [InlineData(Fault.Dead, true)]
    [InlineData(Fault.LateAndDead, true)]
    internal void Removing_is_an_error_only_where_the_entry_may_still_be_there(Fault fault, bool? unknown)
    {
        Fail(1, fault);
        var error = Record.Exception(() => _folder.Remove("entry")) as FileCallException;
        Assert.Equal(unknown, error?.OutcomeUnknown);
        Assert.Equal(fault is Fault.Late or Fault.LateAndDead, _disk.Find("/folder")!.Find("entry") is null);
    }

    [Fact]
    public void Short_reads_and_writes_are_gone_on_with()
    {
        Fail(2, Fault.Short);
        Write("other", New);
        Assert.Equal(New, Content("other"));
        using OpenFile file = _folder.Open("other", FileUse.Read);
        byte[] read = new byte[4];
        Fail(1, Fault.Short);
        file.Read(read, 0);
        Assert.Equal(New, read);
        Assert.Throws<KvCorruptionException>(() => file.Read(new byte[5], 0));
    }

    private byte[] Content(string name) => _disk.Find("/folder")!.Find(name)!.ToArray();

    private void Fail(int operation, Fault fault) =>
        (_files.FailAt, _files.Fault) = (operation == 0 ? 0 : _files.Operations + operation, fault);

    private void Write(string name, byte[] bytes)
    {
        using OpenFile file = _folder.Open(name, FileUse.Create);
        file.Write(bytes, 0);
    }
}
