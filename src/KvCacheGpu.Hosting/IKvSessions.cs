namespace KvCacheGpu.Hosting;

/// <summary>
/// The sessions of a cache, by tenant and id: conversations that go on from request to request, and from process to process. A session that nobody uses for a while leaves the device; all are saved when the host stops,
/// and loaded when they are asked for (<see cref="KvSessionsOptions"/>). Members may be called from any thread.
/// </summary>
public interface IKvSessions
{
    /// <summary>How many sessions there are, and where.</summary>
    KvSessionCounts Counts { get; }

    /// <summary>
    /// Rents a session: waits until nobody else has it, and brings it to the device. One that there is not begins empty. If the device has no room, the sessions that were used longest ago leave it.
    /// </summary>
    /// <param name="tenant">Whose it is; null stands for sessions without a tenant. The same id of another tenant is another session.</param>
    /// <param name="id">Its id, any text that is not empty.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The lease; whoever has it has the sequence alone, until it is disposed.</returns>
    /// <exception cref="ArgumentException">An empty id, or an id or tenant that is too long or that UTF-8 cannot say.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: no room, also after all idle sessions have left the device; or in the tenant's quota.</exception>
    /// <exception cref="KvCacheException">What was saved cannot be loaded: damaged (E004), of another model (E003), of a later version (E007).</exception>
    /// <exception cref="ObjectDisposedException">The host has stopped.</exception>
    Task<KvSessionLease> RentAsync(string? tenant, string id, CancellationToken cancellationToken = default);

    /// <summary>Ends a session for good, once nobody has it: on the device, in host memory, in the folder.</summary>
    /// <param name="tenant">Whose it is.</param>
    /// <param name="id">Its id.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>False if there was none.</returns>
    /// <inheritdoc cref="RentAsync" path="/exception[@cref='T:System.ArgumentException' or @cref='T:System.ObjectDisposedException']"/>
    Task<bool> RemoveAsync(string? tenant, string id, CancellationToken cancellationToken = default);

    /// <summary>Sends the session that was used longest ago from the device: for a host whose step found no room (<see cref="KvCache.TryBegin(ReadOnlySpan{KvSequence}, ReadOnlySpan{int}, ReadOnlySpan{int}, out KvStep, KvStream)"/>).</summary>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>False if there is none that nobody has.</returns>
    Task<bool> MakeRoomAsync(CancellationToken cancellationToken = default);

    /// <summary>Saves all sessions that have changed since they were saved, each once nobody has it. They stay where they are. Does nothing without a folder. One that cannot be saved keeps no other from it: its error is thrown at the end.</summary>
    /// <remarks>Whoever calls it has no lease: it would wait for that one.</remarks>
    /// <param name="cancellationToken">Ends the wait; what was saved by then is saved.</param>
    /// <returns>How many were saved.</returns>
    /// <exception cref="KvPersistenceException">The disk refused (E005).</exception>
    /// <exception cref="KvConcurrencyException">E006: a session was given back with a step open.</exception>
    Task<int> SaveAsync(CancellationToken cancellationToken = default);
}

/// <summary>How many sessions there are, and where. Thread safety: it never changes.</summary>
/// <param name="Rented">Those that somebody has.</param>
/// <param name="Resident">Those that nobody has, on the device.</param>
/// <param name="Swapped">Those in host memory.</param>
public readonly record struct KvSessionCounts(int Rented, int Resident, int Swapped);
