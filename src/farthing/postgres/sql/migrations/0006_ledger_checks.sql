ALTER TABLE farthing.ledger ADD COLUMN checks text;
