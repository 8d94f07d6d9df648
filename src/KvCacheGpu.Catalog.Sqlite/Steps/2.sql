ALTER TABLE cache_entries ADD COLUMN session_id VARCHAR(255)

ALTER TABLE cache_entries ADD COLUMN metadata TEXT

CREATE INDEX idx_session_id ON cache_entries (session_id)
