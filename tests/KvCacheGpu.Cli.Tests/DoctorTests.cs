using System.Text.Json;

namespace KvCacheGpu.Cli.Tests;

public sealed class DoctorTests
{
    [Fact]
    public void Json_tells_what_the_engine_sees()
    {
        JsonElement doctor = Schema.Check(
            Tool.Json("doctor"), "version string, runtime string, os string, cpu object, auto_device string, devices array, formats array, configuration object");
        JsonElement cpu = Schema.Check(doctor.GetProperty("cpu"), "architecture string, cores number, features array, simd string");
        foreach (JsonElement device in doctor.GetProperty("devices").EnumerateArray())
        {
            Schema.Check(device, "id string, kind string, name string, memory_bytes number, usable bool, reason string?, formats array, cuda object?");
            Assert.Equal(device.Text("kind") == "cuda", device.GetProperty("cuda").ValueKind == JsonValueKind.Object);
        }

        using KvCache cache = new(new KvGeometry(1, 1, 1, 64), new KvCacheOptions { Device = "cpu", MaxTokens = 64 });
        Assert.Equal(cache.TierName, cpu.Text("simd"));
        Assert.Equal(Environment.ProcessorCount, cpu.Long("cores"));
        Assert.Equal(KvDevice.List().Select(d => (d.Id, d.Usable)), doctor.GetProperty("devices").EnumerateArray().Select(d => (d.Text("id")!, d.GetProperty("usable").GetBoolean())));
        Assert.Equal(KvDevice.Resolve("auto").Id, doctor.Text("auto_device"));
        Assert.Matches("^[0-9]+[.][0-9]+[.][0-9]+", doctor.Text("version"));
    }

    [Fact]
    public void Formats_are_those_of_the_layout()
    {
        foreach (JsonElement format in Tool.Json("doctor").GetProperty("formats").EnumerateArray())
        {
            Schema.Check(format, "name string, bits_per_element number, scale_bytes number, keys bool, values bool, partners array, full_precision bool, rotated bool, width_multiple number");
            Assert.True(PageFormats.TryParse(format.Text("name"), out PageFormat f));
            Assert.Equal((f.BitsPerElement(), f.ScaleBytes(128)), ((int)format.Long("bits_per_element"), (int)format.Long("scale_bytes")));
            Assert.Equal((f.IsForKeys(), f.IsForValues()), (format.GetProperty("keys").GetBoolean(), format.GetProperty("values").GetBoolean()));
            foreach (JsonElement partner in format.GetProperty("partners").EnumerateArray())
            {
                Assert.True(PageFormats.TryParse(partner.GetString(), out PageFormat other));
                Assert.True(PageFormats.IsPair(f, other) || PageFormats.IsPair(other, f));
            }

            int multiple = (int)format.Long("width_multiple");
            Assert.True(f.Takes(multiple * 8) && (multiple == 1 || !f.Takes((multiple * 8) + 1)));
        }
    }

    [Fact]
    public void People_get_a_line_for_each_device()
    {
        Tool doctor = Tool.Run("doctor");
        Assert.Equal((0, string.Empty), (doctor.Exit, doctor.Error));
        Assert.All(KvDevice.List(), d => Assert.Contains($"| {d.Id} ", doctor.Output, StringComparison.Ordinal));
        Assert.Contains("yes (auto)", doctor.Output, StringComparison.Ordinal);
    }
}
