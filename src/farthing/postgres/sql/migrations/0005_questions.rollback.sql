DROP TABLE farthing.cache_verdicts, farthing.cache_hits, farthing.questions;
DROP INDEX farthing.erasures_at;
ALTER TABLE farthing.erasures DROP CONSTRAINT erasures_what;
DELETE FROM farthing.erasures WHERE namespace IS NOT NULL OR tag IS NOT NULL OR answer_key IS NOT NULL;
ALTER TABLE farthing.erasures DROP COLUMN namespace, DROP COLUMN tag, DROP COLUMN answer_key, ADD PRIMARY KEY (tenant, what, user_id);
ALTER TABLE farthing.answers DROP COLUMN tags;
