ALTER TABLE cache_entries ADD COLUMN session_id VARCHAR(255), ADD COLUMN metadata JSONB

CREATE INDEX idx_session_id ON cache_entries (session_id)

CREATE TABLE IF NOT EXISTS kvcache_aside_2 (key VARCHAR(255) PRIMARY KEY, session_id VARCHAR(255), metadata JSONB)

UPDATE cache_entries e SET session_id = a.session_id, metadata = a.metadata FROM kvcache_aside_2 a WHERE a.key = e.key

DROP TABLE kvcache_aside_2
