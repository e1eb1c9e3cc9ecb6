-- user_id: empty for a conversation that is the tenant's.
CREATE TABLE farthing.turns (
  id uuid NOT NULL,
  tenant text NOT NULL,
  user_id text NOT NULL,
  conversation text COLLATE "C" NOT NULL CHECK (octet_length(conversation) <= 1024),
  number integer NOT NULL,
  role text NOT NULL,
  payload bytea NOT NULL CHECK (octet_length(payload) <= 1048576),
  vector bytea CHECK (octet_length(vector) <= 65536),
  embedder text,
  at timestamptz NOT NULL,
  PRIMARY KEY (tenant, id),
  UNIQUE (tenant, user_id, conversation, number)
);
CREATE INDEX turns_user_id ON farthing.turns (tenant, user_id, at, number);
CREATE INDEX turns_at ON farthing.turns (at);

ALTER TABLE farthing.turns ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.turns FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.turns TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.turns TO farthing_service USING (true) WITH CHECK (true);

GRANT SELECT ON farthing.turns TO farthing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.turns TO farthing_service;

ALTER TABLE farthing.ledger ADD COLUMN memory text;
