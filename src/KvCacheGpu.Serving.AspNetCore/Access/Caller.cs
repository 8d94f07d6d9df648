namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>Who sent a request.</summary>
/// <param name="Tenant">The tenant; null on a server without keys.</param>
/// <param name="IsAdmin">True if it may see and do everything.</param>
internal readonly record struct Caller(string? Tenant, bool IsAdmin);
