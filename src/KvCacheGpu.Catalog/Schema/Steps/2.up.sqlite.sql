ALTER TABLE cache_entries ADD COLUMN session_id VARCHAR(255)

ALTER TABLE cache_entries ADD COLUMN metadata TEXT

CREATE INDEX idx_session_id ON cache_entries (session_id)

CREATE TABLE IF NOT EXISTS kvcache_aside_2 (key VARCHAR(255) PRIMARY KEY, session_id VARCHAR(255), metadata TEXT)

UPDATE cache_entries SET session_id = a.session_id, metadata = a.metadata FROM kvcache_aside_2 a WHERE a.key = cache_entries.key

DROP TABLE kvcache_aside_2
