DROP TABLE farthing.receipts, farthing.profiles, farthing.facts;
DROP INDEX farthing.answers_user_id;
ALTER TABLE farthing.answers DROP COLUMN user_id;
