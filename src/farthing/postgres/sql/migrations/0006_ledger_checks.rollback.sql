ALTER TABLE farthing.ledger DROP COLUMN checks;
