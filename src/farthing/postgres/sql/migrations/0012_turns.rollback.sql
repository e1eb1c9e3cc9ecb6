ALTER TABLE farthing.ledger DROP COLUMN memory;
DROP TABLE farthing.turns;
DELETE FROM farthing.erasures WHERE what = 'turns';
