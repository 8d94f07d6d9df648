ALTER TABLE cache_entries ADD COLUMN value BLOB

ALTER TABLE cache_entries ADD COLUMN created_at TIMESTAMP

ALTER TABLE cache_entries ADD COLUMN accessed_at TIMESTAMP

ALTER TABLE cache_entries ADD COLUMN tenant VARCHAR(255)

ALTER TABLE cache_entries ADD COLUMN name TEXT

ALTER TABLE cache_entries ADD COLUMN path TEXT

ALTER TABLE cache_entries ADD COLUMN checksum VARCHAR(255)

ALTER TABLE cache_entries ADD COLUMN format_version INTEGER

ALTER TABLE cache_entries ADD COLUMN bytes BIGINT

ALTER TABLE cache_entries ADD COLUMN layers INTEGER

ALTER TABLE cache_entries ADD COLUMN tokens BIGINT

CREATE UNIQUE INDEX idx_cache_unique ON cache_entries (key)

CREATE INDEX idx_cache_session ON cache_entries (session_id, key)

CREATE INDEX idx_cache_tenant ON cache_entries (tenant, key)

-- What JSONB's index does elsewhere: names and values at the top of each entry's metadata, kept by triggers.
CREATE TABLE cache_metadata (name TEXT NOT NULL, value BLOB NOT NULL, key VARCHAR(255) NOT NULL, PRIMARY KEY (name, value, key)) WITHOUT ROWID

CREATE INDEX idx_cache_metadata_key ON cache_metadata (key)

INSERT OR IGNORE INTO cache_metadata
    SELECT j.key, j.atom, e.key FROM cache_entries e, json_each(CASE WHEN json_valid(e.metadata) THEN e.metadata ELSE '{}' END) j
    WHERE e.key IS NOT NULL AND j.atom IS NOT NULL

CREATE TRIGGER cache_metadata_insert AFTER INSERT ON cache_entries BEGIN
    INSERT OR IGNORE INTO cache_metadata
        SELECT j.key, j.atom, new.key FROM json_each(CASE WHEN json_valid(new.metadata) THEN new.metadata ELSE '{}' END) j
        WHERE new.key IS NOT NULL AND j.atom IS NOT NULL;
END

CREATE TRIGGER cache_metadata_update AFTER UPDATE OF key, metadata ON cache_entries BEGIN
    DELETE FROM cache_metadata WHERE key = old.key;
    INSERT OR IGNORE INTO cache_metadata
        SELECT j.key, j.atom, new.key FROM json_each(CASE WHEN json_valid(new.metadata) THEN new.metadata ELSE '{}' END) j
        WHERE new.key IS NOT NULL AND j.atom IS NOT NULL;
END

CREATE TRIGGER cache_metadata_delete AFTER DELETE ON cache_entries BEGIN
    DELETE FROM cache_metadata WHERE key = old.key;
END
