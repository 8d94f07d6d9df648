ALTER TABLE cache_entries
    ADD COLUMN tenant VARCHAR(255),
    ADD COLUMN name TEXT,
    ADD COLUMN path TEXT,
    ADD COLUMN checksum VARCHAR(255),
    ADD COLUMN format_version INTEGER,
    ADD COLUMN bytes BIGINT,
    ADD COLUMN layers INTEGER,
    ADD COLUMN tokens BIGINT

CREATE TABLE IF NOT EXISTS kvcache_aside_3 (
    key VARCHAR(255) PRIMARY KEY, tenant VARCHAR(255), name TEXT, path TEXT, checksum VARCHAR(255), format_version INTEGER, bytes BIGINT, layers INTEGER, tokens BIGINT
)

UPDATE cache_entries e SET
    tenant = a.tenant,
    name = a.name,
    path = a.path,
    checksum = a.checksum,
    format_version = a.format_version,
    bytes = a.bytes,
    layers = a.layers,
    tokens = a.tokens
FROM kvcache_aside_3 a WHERE a.key = e.key

DROP TABLE kvcache_aside_3

CREATE INDEX idx_cache_key ON cache_entries (key COLLATE "C")

CREATE INDEX idx_cache_session ON cache_entries (session_id, key COLLATE "C")

CREATE INDEX idx_cache_tenant ON cache_entries (tenant, key COLLATE "C")

CREATE INDEX idx_cache_metadata ON cache_entries USING GIN (metadata jsonb_path_ops)
