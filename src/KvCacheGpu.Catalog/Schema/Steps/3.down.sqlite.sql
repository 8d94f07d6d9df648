-- Keeps tenant, name, path, checksum, format_version, bytes, layers and tokens in the table kvcache_aside_3; a later migration brings them back.
CREATE TABLE kvcache_aside_3 (
    key VARCHAR(255) PRIMARY KEY, tenant VARCHAR(255), name TEXT, path TEXT, checksum VARCHAR(255), format_version INTEGER, bytes BIGINT, layers INTEGER, tokens BIGINT
)

INSERT INTO kvcache_aside_3 SELECT key, tenant, name, path, checksum, format_version, bytes, layers, tokens FROM cache_entries WHERE key IS NOT NULL

DROP TRIGGER cache_metadata_insert

DROP TRIGGER cache_metadata_update

DROP TRIGGER cache_metadata_delete

DROP TABLE cache_metadata

DROP INDEX idx_cache_session

DROP INDEX idx_cache_tenant

ALTER TABLE cache_entries DROP COLUMN tenant

ALTER TABLE cache_entries DROP COLUMN name

ALTER TABLE cache_entries DROP COLUMN path

ALTER TABLE cache_entries DROP COLUMN checksum

ALTER TABLE cache_entries DROP COLUMN format_version

ALTER TABLE cache_entries DROP COLUMN bytes

ALTER TABLE cache_entries DROP COLUMN layers

ALTER TABLE cache_entries DROP COLUMN tokens
