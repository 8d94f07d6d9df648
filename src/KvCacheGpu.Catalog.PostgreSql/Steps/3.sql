ALTER TABLE cache_entries ADD COLUMN value BYTEA

ALTER TABLE cache_entries ADD COLUMN created_at TIMESTAMPTZ

ALTER TABLE cache_entries ADD COLUMN accessed_at TIMESTAMPTZ

ALTER TABLE cache_entries ADD COLUMN tenant VARCHAR(255)

ALTER TABLE cache_entries ADD COLUMN name TEXT

ALTER TABLE cache_entries ADD COLUMN path TEXT

ALTER TABLE cache_entries ADD COLUMN checksum VARCHAR(255)

ALTER TABLE cache_entries ADD COLUMN format_version INTEGER

ALTER TABLE cache_entries ADD COLUMN bytes BIGINT

ALTER TABLE cache_entries ADD COLUMN layers INTEGER

ALTER TABLE cache_entries ADD COLUMN tokens BIGINT

CREATE UNIQUE INDEX idx_cache_unique ON cache_entries (key)

CREATE INDEX idx_cache_key ON cache_entries (key COLLATE "C")

CREATE INDEX idx_cache_session ON cache_entries (session_id, key COLLATE "C")

CREATE INDEX idx_cache_tenant ON cache_entries (tenant, key COLLATE "C")

CREATE INDEX idx_cache_metadata ON cache_entries USING GIN (metadata jsonb_path_ops)
