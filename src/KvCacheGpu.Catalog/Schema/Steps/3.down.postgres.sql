-- Keeps tenant, name, path, checksum, format_version, bytes, layers and tokens in the table kvcache_aside_3; a later migration brings them back.
CREATE TABLE kvcache_aside_3 (
    key VARCHAR(255) PRIMARY KEY, tenant VARCHAR(255), name TEXT, path TEXT, checksum VARCHAR(255), format_version INTEGER, bytes BIGINT, layers INTEGER, tokens BIGINT
)

INSERT INTO kvcache_aside_3 SELECT key, tenant, name, path, checksum, format_version, bytes, layers, tokens FROM cache_entries

DROP INDEX idx_cache_key, idx_cache_session, idx_cache_tenant, idx_cache_metadata

ALTER TABLE cache_entries
    DROP COLUMN tenant,
    DROP COLUMN name,
    DROP COLUMN path,
    DROP COLUMN checksum,
    DROP COLUMN format_version,
    DROP COLUMN bytes,
    DROP COLUMN layers,
    DROP COLUMN tokens
