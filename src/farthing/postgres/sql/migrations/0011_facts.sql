CREATE TABLE farthing.facts (
  tenant text NOT NULL,
  user_id text NOT NULL,
  id uuid NOT NULL,
  key text COLLATE "C" NOT NULL,
  value jsonb NOT NULL,
  multi boolean NOT NULL,
  confidence double precision NOT NULL,
  sources text[] NOT NULL,
  by text NOT NULL,
  valid_from timestamptz NOT NULL,
  valid_to timestamptz,
  known_from timestamptz NOT NULL,
  known_to timestamptz,
  confirmed_at timestamptz,
  expires_at timestamptz,
  ended_by text,
  PRIMARY KEY (tenant, user_id, id)
);
CREATE INDEX facts_key ON farthing.facts (tenant, user_id, key, known_from);
CREATE INDEX facts_expires_at ON farthing.facts (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX facts_ended ON farthing.facts (known_from) WHERE valid_to IS NOT NULL OR known_to IS NOT NULL;

-- What holds of a user now, so that it is read at once. The same facts are in farthing.facts.
CREATE TABLE farthing.profiles (
  tenant text NOT NULL,
  user_id text NOT NULL,
  version bigint NOT NULL,
  facts jsonb NOT NULL,
  PRIMARY KEY (tenant, user_id)
) WITH (fillfactor = 80);

-- Proof that a user, or (subject NULL) a tenant, was forgotten. subject: the SHA-256 of tenant and user; a receipt names nobody.
CREATE TABLE farthing.receipts (
  tenant text NOT NULL,
  id uuid NOT NULL,
  subject bytea CHECK (octet_length(subject) = 32),
  at timestamptz NOT NULL,
  by text NOT NULL,
  complete boolean NOT NULL,
  places jsonb NOT NULL,
  PRIMARY KEY (tenant, id)
);

-- On whose behalf the answer was made, where that is known: it may say something of him.
ALTER TABLE farthing.answers ADD COLUMN user_id text;
CREATE INDEX answers_user_id ON farthing.answers (tenant, user_id) WHERE user_id IS NOT NULL;

ALTER TABLE farthing.facts ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.facts FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.facts TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.facts TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.profiles ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.profiles FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.profiles TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.profiles TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.receipts ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.receipts FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.receipts TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.receipts TO farthing_service USING (true) WITH CHECK (true);

GRANT SELECT ON farthing.facts, farthing.profiles, farthing.receipts TO farthing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.facts, farthing.profiles, farthing.receipts TO farthing_service;
