ALTER TABLE farthing.keys ADD COLUMN limits jsonb;

ALTER TABLE farthing.ledger ADD COLUMN worker text;

CREATE TABLE farthing.budgets (
  id uuid PRIMARY KEY,
  scope text NOT NULL,
  subject text NOT NULL,
  tenant text,
  limit_microusd bigint NOT NULL CHECK (limit_microusd BETWEEN 0 AND 1000000000000000),
  window_kind text NOT NULL,
  window_s integer,
  hard boolean NOT NULL,
  origin text NOT NULL,
  created_at timestamptz NOT NULL
);
CREATE INDEX budgets_subject ON farthing.budgets (scope, subject);

-- No foreign keys on the next two: they are written with the ledger, which must not fail because a budget is being deleted.
CREATE TABLE farthing.budget_spend (
  budget_id uuid NOT NULL,
  bucket timestamptz NOT NULL,
  spent_microusd bigint NOT NULL,
  PRIMARY KEY (budget_id, bucket)
);

CREATE TABLE farthing.budget_leases (
  budget_id uuid NOT NULL,
  worker text NOT NULL,
  window_start timestamptz NOT NULL,
  granted_microusd bigint NOT NULL,
  settled_microusd bigint NOT NULL,
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (budget_id, worker, window_start)
);
CREATE INDEX budget_leases_worker ON farthing.budget_leases (worker);

ALTER TABLE farthing.budgets ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.budgets FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.budgets TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.budgets TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.budget_spend ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.budget_spend FORCE ROW LEVEL SECURITY;
CREATE POLICY all_tenants ON farthing.budget_spend TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.budget_leases ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.budget_leases FORCE ROW LEVEL SECURITY;
CREATE POLICY all_tenants ON farthing.budget_leases TO farthing_service USING (true) WITH CHECK (true);

GRANT SELECT ON farthing.budgets TO farthing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.budgets, farthing.budget_spend, farthing.budget_leases TO farthing_service;
