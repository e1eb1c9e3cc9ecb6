DROP TABLE farthing.budget_leases, farthing.budget_spend, farthing.budgets;
ALTER TABLE farthing.ledger DROP COLUMN worker;
ALTER TABLE farthing.keys DROP COLUMN limits;
