ALTER TABLE farthing.answers ADD COLUMN tags text[] NOT NULL DEFAULT '{}';

-- crowded: one of many in its partition. Only those are in the graph; the others are found by their partition.
CREATE TABLE farthing.questions (
  id uuid PRIMARY KEY,
  tenant text NOT NULL,
  partition bytea NOT NULL CHECK (octet_length(partition) = 32),
  namespace text NOT NULL,
  user_id text,
  tags text[] NOT NULL,
  vector halfvec(384) NOT NULL,
  payload bytea NOT NULL,
  answer_key bytea NOT NULL,
  request_id uuid NOT NULL,
  cost_microusd bigint NOT NULL,
  reuse bigint NOT NULL,
  worth double precision NOT NULL,
  crowded boolean NOT NULL,
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL
) WITH (fillfactor = 90);
CREATE INDEX questions_partition ON farthing.questions (tenant, partition, crowded);
CREATE INDEX questions_expires_at ON farthing.questions (expires_at);
CREATE INDEX questions_worth ON farthing.questions (worth, id);
CREATE INDEX questions_user_id ON farthing.questions (tenant, user_id) WHERE user_id IS NOT NULL;
CREATE INDEX questions_vector ON farthing.questions USING hnsw (vector halfvec_cosine_ops) WHERE crowded;

CREATE TABLE farthing.cache_hits (
  request_id uuid PRIMARY KEY,
  question_id uuid NOT NULL,
  answer_key bytea NOT NULL,
  tenant text NOT NULL,
  score double precision NOT NULL,
  saved_microusd bigint NOT NULL,
  at timestamptz NOT NULL
);
CREATE INDEX cache_hits_question_id ON farthing.cache_hits (tenant, question_id, at);
CREATE INDEX cache_hits_at ON farthing.cache_hits (at, request_id);

CREATE TABLE farthing.cache_verdicts (
  id uuid PRIMARY KEY,
  tenant text NOT NULL,
  question_id uuid NOT NULL,
  request_id uuid NOT NULL,
  same boolean NOT NULL,
  by text NOT NULL,
  score double precision NOT NULL,
  served boolean NOT NULL,
  audit double precision NOT NULL,
  at timestamptz NOT NULL
);
CREATE INDEX cache_verdicts_tenant_at ON farthing.cache_verdicts (tenant, at);
CREATE INDEX cache_verdicts_at ON farthing.cache_verdicts (at, id);

-- An erasure may be of a part of a cache. NULL: whatever it is.
ALTER TABLE farthing.erasures DROP CONSTRAINT erasures_pkey;
ALTER TABLE farthing.erasures ADD COLUMN namespace text, ADD COLUMN tag text, ADD COLUMN answer_key bytea;
ALTER TABLE farthing.erasures ADD CONSTRAINT erasures_what UNIQUE NULLS NOT DISTINCT (tenant, what, user_id, namespace, tag, answer_key);
CREATE INDEX erasures_at ON farthing.erasures (tenant, what, at);

ALTER TABLE farthing.questions ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.questions FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.questions TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.questions TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.cache_hits ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.cache_hits FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.cache_hits TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.cache_hits TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.cache_verdicts ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.cache_verdicts FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.cache_verdicts TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.cache_verdicts TO farthing_service USING (true) WITH CHECK (true);

GRANT SELECT ON farthing.questions, farthing.cache_hits, farthing.cache_verdicts TO farthing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.questions, farthing.cache_hits, farthing.cache_verdicts TO farthing_service;
