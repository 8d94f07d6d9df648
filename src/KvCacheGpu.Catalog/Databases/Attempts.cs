using System.Data.Common;

namespace KvCacheGpu.Catalog;

/// <summary>Runs work on a connection. After a temporary fault the work is tried again, a limited number of times; a fault that stays is E008.</summary>
internal static class Attempts
{
    // The wait doubles up to this one.
    private static readonly TimeSpan _longest = TimeSpan.FromSeconds(2);

    /// <summary>Runs <paramref name="work"/>, which must be safe to run twice: an answer can be lost after the database has done the work.</summary>
    public static async Task<T> RunAsync<T>(this CatalogDatabase database, Func<DbConnection, Task<T>> work, CancellationToken cancel)
    {
        TimeSpan delay = database.Options.RetryDelay;
        for (int attempt = 0; ; attempt++)
        {
            try
            {
                await using DbConnection connection = await database.OpenAsync(cancel).ConfigureAwait(false);
                return await work(connection).ConfigureAwait(false);
            }
            catch (Exception e) when (attempt < database.Options.Retries && database.IsTransient(e))
            {
                database.ForgetConnections();
            }
            catch (Exception e) when (e is DbException || database.IsTransient(e))
            {
                string times = attempt == 0 ? string.Empty : $" after {attempt + 1} attempts";
                throw database.IsAnswer(e)
                    ? CatalogException.Failed(database.Address, $"{database.Describe(e)}{times}", e)
                    : CatalogException.Unavailable(database.Address, $"{database.Describe(e)}{times}", e);
            }

            await Task.Delay(delay, cancel).ConfigureAwait(false);
            delay = delay * 2 < _longest ? delay * 2 : _longest;
        }
    }
}
