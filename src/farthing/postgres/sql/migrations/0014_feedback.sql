-- Where the answer to a request is in the exact cache, so that one that was bad can be found and deleted.
ALTER TABLE farthing.ledger ADD COLUMN answer_key text COLLATE "C";

CREATE TABLE farthing.feedback (
  id uuid PRIMARY KEY,
  tenant text NOT NULL,
  request_id uuid NOT NULL,
  user_id text,
  score double precision NOT NULL,
  correction text,
  reason text,
  by uuid NOT NULL,
  digest bytea NOT NULL CHECK (octet_length(digest) BETWEEN 1 AND 64),
  at timestamptz NOT NULL,
  CONSTRAINT feedback_score_is_a_share CHECK (score BETWEEN 0 AND 1),
  CONSTRAINT feedback_is_short CHECK (octet_length(correction) <= 262144 AND octet_length(reason) <= 65536),
  CONSTRAINT feedback_once UNIQUE (tenant, request_id, by, digest)
);
CREATE INDEX feedback_tenant_id ON farthing.feedback (tenant, id);
CREATE INDEX feedback_user_id ON farthing.feedback (tenant, user_id) WHERE user_id IS NOT NULL;

ALTER TABLE farthing.feedback ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.feedback FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.feedback TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.feedback TO farthing_service USING (true) WITH CHECK (true);

GRANT SELECT ON farthing.feedback TO farthing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.feedback TO farthing_service;
