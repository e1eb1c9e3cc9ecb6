CREATE TABLE farthing.config (
  name text PRIMARY KEY,
  version bigint NOT NULL,
  body jsonb NOT NULL,
  at timestamptz NOT NULL,
  by text NOT NULL,
  reason text NOT NULL
);

CREATE TABLE farthing.config_history (
  name text NOT NULL,
  version bigint NOT NULL,
  body jsonb NOT NULL,
  at timestamptz NOT NULL,
  by text NOT NULL,
  reason text NOT NULL,
  PRIMARY KEY (name, version)
);

-- They are of no tenant: only the service role sees them.
ALTER TABLE farthing.config ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.config FORCE ROW LEVEL SECURITY;
CREATE POLICY all_tenants ON farthing.config TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.config_history ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.config_history FORCE ROW LEVEL SECURITY;
CREATE POLICY all_tenants ON farthing.config_history TO farthing_service USING (true) WITH CHECK (true);

GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.config, farthing.config_history TO farthing_service;
