DROP TABLE farthing.feedback;
ALTER TABLE farthing.ledger DROP COLUMN answer_key;
DELETE FROM farthing.erasures WHERE what = 'feedback';
