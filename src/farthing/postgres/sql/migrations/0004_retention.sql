CREATE TABLE farthing.retention (
  tenant text PRIMARY KEY,
  enabled boolean NOT NULL,
  ttl_s integer NOT NULL,
  set_by uuid,
  set_at timestamptz NOT NULL
);

CREATE TABLE farthing.transcripts (
  request_id uuid PRIMARY KEY,
  tenant text NOT NULL,
  user_id text,
  model text NOT NULL,
  source text NOT NULL,
  payload bytea NOT NULL,
  at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL
);
CREATE INDEX transcripts_expires_at ON farthing.transcripts (expires_at);
CREATE INDEX transcripts_user_id ON farthing.transcripts (tenant, user_id);

CREATE TABLE farthing.erasures (
  tenant text NOT NULL,
  what text NOT NULL,
  user_id text NOT NULL,
  at timestamptz NOT NULL,
  PRIMARY KEY (tenant, what, user_id)
);

ALTER TABLE farthing.retention ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.retention FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.retention TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.retention TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.transcripts ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.transcripts FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.transcripts TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.transcripts TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.erasures ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.erasures FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.erasures TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.erasures TO farthing_service USING (true) WITH CHECK (true);

GRANT SELECT ON farthing.retention, farthing.transcripts, farthing.erasures TO farthing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.retention, farthing.transcripts, farthing.erasures TO farthing_service;
