CREATE TABLE farthing.responses (
  id uuid NOT NULL,
  tenant text NOT NULL,
  user_id text,
  previous_id uuid,
  payload bytea NOT NULL,
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (tenant, id)
);
CREATE INDEX responses_expires_at ON farthing.responses (expires_at);
CREATE INDEX responses_user_id ON farthing.responses (tenant, user_id) WHERE user_id IS NOT NULL;

ALTER TABLE farthing.responses ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.responses FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.responses TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.responses TO farthing_service USING (true) WITH CHECK (true);

GRANT SELECT ON farthing.responses TO farthing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.responses TO farthing_service;
