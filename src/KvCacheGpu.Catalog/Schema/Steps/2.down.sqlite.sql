-- Keeps session_id and metadata in the table kvcache_aside_2; a later migration brings them back.
CREATE TABLE kvcache_aside_2 (key VARCHAR(255) PRIMARY KEY, session_id VARCHAR(255), metadata TEXT)

INSERT INTO kvcache_aside_2 SELECT key, session_id, metadata FROM cache_entries WHERE key IS NOT NULL

DROP INDEX idx_session_id

ALTER TABLE cache_entries DROP COLUMN session_id

ALTER TABLE cache_entries DROP COLUMN metadata
