-- The whole schema of Farthing's database, for reading and for tools. The migrations in sql/migrations/ make it; a test
-- compares the two. What the tables and columns mean is in docs/schema.md. PostgreSQL 15 or newer.

-- The two roles that Farthing works in. Neither can log in, neither owns anything, neither escapes row-level security.
-- Run by the migrator; an administrator may run it instead where the login user may not create roles.
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'farthing_app') THEN
    CREATE ROLE farthing_app NOLOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'farthing_service') THEN
    CREATE ROLE farthing_service NOLOGIN;
  END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
  NULL; -- roles belong to the whole cluster: another database's migrator was faster
END
$$;

CREATE SCHEMA farthing;
CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE farthing.keys (
  id uuid PRIMARY KEY,
  tenant text NOT NULL,
  user_id text,
  tier text NOT NULL,
  name text,
  digest bytea NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
  hint text NOT NULL,
  admin boolean NOT NULL,
  models text[],
  created_at timestamptz NOT NULL,
  expires_at timestamptz,
  revoked_at timestamptz,
  limits jsonb
);

CREATE TABLE farthing.ledger (
  id uuid PRIMARY KEY,
  at timestamptz NOT NULL,
  request_id uuid NOT NULL,
  attempt integer NOT NULL,
  final boolean NOT NULL,
  tenant text NOT NULL,
  key_id uuid,
  user_id text,
  tier text,
  operation text NOT NULL,
  purpose text NOT NULL,
  source text NOT NULL,
  model_asked text,
  model_used text,
  provider text,
  upstream_model text,
  prompt_version text,
  route text,
  mode text,
  task_type text,
  stream boolean NOT NULL,
  tokens_in integer NOT NULL,
  tokens_out integer NOT NULL,
  tokens_cache_read integer NOT NULL,
  tokens_cache_write integer NOT NULL,
  tokens_reasoning integer NOT NULL,
  usage_source text NOT NULL,
  price_in_microusd_per_1m bigint,
  price_out_microusd_per_1m bigint,
  price_source text NOT NULL,
  cost_microusd bigint NOT NULL,
  baseline_microusd bigint NOT NULL,
  saved_microusd bigint NOT NULL,
  latency_us bigint NOT NULL,
  ttft_us bigint,
  status integer NOT NULL,
  error text,
  worker text,
  checks text,
  -- A billion dollars an entry: what is above it is a mistake, and would in time overflow the sums of its day.
  CONSTRAINT ledger_money_is_plausible CHECK (
    cost_microusd BETWEEN 0 AND 1000000000000000
    AND baseline_microusd BETWEEN 0 AND 1000000000000000
    AND saved_microusd BETWEEN -1000000000000000 AND 1000000000000000
  ),
  CONSTRAINT ledger_tokens_are_counts CHECK (tokens_in >= 0 AND tokens_out >= 0)
);
CREATE INDEX ledger_tenant_id ON farthing.ledger (tenant, id);

CREATE TABLE farthing.ledger_daily (
  day date NOT NULL,
  tenant text NOT NULL,
  key_id uuid,
  model text,
  source text NOT NULL,
  notional boolean NOT NULL,
  requests bigint NOT NULL,
  attempts bigint NOT NULL,
  errors bigint NOT NULL,
  tokens_in bigint NOT NULL,
  tokens_out bigint NOT NULL,
  spent_microusd bigint NOT NULL,
  saved_microusd bigint NOT NULL,
  CONSTRAINT ledger_daily_group UNIQUE NULLS NOT DISTINCT (tenant, day, key_id, model, source, notional)
);
CREATE INDEX ledger_daily_day ON farthing.ledger_daily (day);

CREATE TABLE farthing.answers (
  tenant text NOT NULL,
  key bytea NOT NULL CHECK (octet_length(key) = 32),
  namespace text NOT NULL,
  model text NOT NULL,
  payload bytea NOT NULL,
  cost_microusd bigint NOT NULL,
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  tags text[] NOT NULL DEFAULT '{}',
  PRIMARY KEY (tenant, key)
);
CREATE INDEX answers_created_at ON farthing.answers (created_at);
CREATE INDEX answers_expires_at ON farthing.answers (expires_at);

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
  namespace text,
  tag text,
  answer_key bytea,
  CONSTRAINT erasures_what UNIQUE NULLS NOT DISTINCT (tenant, what, user_id, namespace, tag, answer_key)
);
CREATE INDEX erasures_at ON farthing.erasures (tenant, what, at);

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
-- Routers are the installation's and not a tenant's: only the service role sees them.
CREATE TABLE farthing.routers (
  router text COLLATE "C" NOT NULL,
  version integer NOT NULL,
  artefact bytea NOT NULL CHECK (octet_length(artefact) <= 16777216),
  metrics jsonb NOT NULL,
  created_at timestamptz NOT NULL,
  created_by text NOT NULL,
  PRIMARY KEY (router, version)
);

-- The latest one of a router decides. version: NULL for none.
CREATE TABLE farthing.router_promotions (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  router text COLLATE "C" NOT NULL,
  version integer,
  at timestamptz NOT NULL,
  by text NOT NULL
);
CREATE INDEX router_promotions_router ON farthing.router_promotions (router, id);

CREATE TABLE farthing.outcomes (
  tenant text NOT NULL,
  request_id uuid NOT NULL,
  model text COLLATE "C" NOT NULL,
  user_id text,
  router text COLLATE "C" NOT NULL,
  score double precision,
  by text NOT NULL,
  vector bytea NOT NULL CHECK (octet_length(vector) <= 65536),
  embedder text NOT NULL,
  features double precision[] NOT NULL,
  explored boolean NOT NULL,
  at timestamptz NOT NULL,
  PRIMARY KEY (tenant, request_id, model),
  CONSTRAINT outcomes_score_is_a_share CHECK (score BETWEEN 0 AND 1)
);
CREATE INDEX outcomes_request_id ON farthing.outcomes (request_id, model);
CREATE INDEX outcomes_router ON farthing.outcomes (router, request_id, model);
CREATE INDEX outcomes_user_id ON farthing.outcomes (tenant, user_id) WHERE user_id IS NOT NULL;

-- Foresight: answers ready before the click, and what became of them.
CREATE TABLE farthing.edge_answers (
  tenant text NOT NULL,
  user_id text NOT NULL,
  action text COLLATE "C" NOT NULL,
  body bytea NOT NULL CHECK (octet_length(body) <= 8388608),
  model text NOT NULL,
  states text[] NOT NULL,
  versions bigint[] NOT NULL,
  request_id uuid NOT NULL,
  made_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  cost_microusd bigint NOT NULL,
  PRIMARY KEY (tenant, user_id, action)
);
CREATE INDEX edge_answers_expires_at ON farthing.edge_answers (expires_at);
CREATE INDEX edge_answers_made_at ON farthing.edge_answers (made_at);

-- Answers that were computed ahead and have not ended yet. read_at: when the first click came, NULL for none.
CREATE TABLE farthing.foreseen (
  tenant text NOT NULL,
  request_id uuid NOT NULL,
  user_id text NOT NULL,
  action text COLLATE "C" NOT NULL,
  segment text COLLATE "C" NOT NULL,
  states text[] NOT NULL,
  versions bigint[] NOT NULL,
  made_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  read_at timestamptz,
  PRIMARY KEY (tenant, request_id)
);
CREATE INDEX foreseen_expires_at ON farthing.foreseen (expires_at);
CREATE INDEX foreseen_user_id ON farthing.foreseen (tenant, user_id, action);

CREATE TABLE farthing.foresight_counts (
  tenant text NOT NULL,
  day date NOT NULL,
  action text COLLATE "C" NOT NULL,
  segment text COLLATE "C" NOT NULL,
  computed bigint NOT NULL,
  read bigint NOT NULL,
  stale bigint NOT NULL,
  expired bigint NOT NULL,
  served bigint NOT NULL,
  live bigint NOT NULL,
  tokens_in bigint NOT NULL,
  tokens_out bigint NOT NULL,
  spent_microusd bigint NOT NULL,
  saved_microusd bigint NOT NULL,
  PRIMARY KEY (tenant, action, day, segment)
);
CREATE INDEX foresight_counts_day ON farthing.foresight_counts (day);

-- week: its Monday.
CREATE TABLE farthing.foresight_reports (
  week date NOT NULL,
  tenant text NOT NULL,
  rows jsonb NOT NULL,
  made_at timestamptz NOT NULL,
  PRIMARY KEY (week, tenant)
);

-- Row-level security, forced on the owner too. A setting never made is NULL, one whose transaction has ended is empty: no row matches either.
ALTER TABLE farthing.keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.keys FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.keys TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.keys TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.ledger ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.ledger FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.ledger TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.ledger TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.ledger_daily ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.ledger_daily FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.ledger_daily TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.ledger_daily TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.answers ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.answers FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.answers TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.answers TO farthing_service USING (true) WITH CHECK (true);

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

ALTER TABLE farthing.responses ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.responses FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.responses TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.responses TO farthing_service USING (true) WITH CHECK (true);

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

-- They are of no tenant: only the service role sees them.
ALTER TABLE farthing.config ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.config FORCE ROW LEVEL SECURITY;
CREATE POLICY all_tenants ON farthing.config TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.config_history ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.config_history FORCE ROW LEVEL SECURITY;
CREATE POLICY all_tenants ON farthing.config_history TO farthing_service USING (true) WITH CHECK (true);
ALTER TABLE farthing.routers ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.routers FORCE ROW LEVEL SECURITY;
CREATE POLICY all_tenants ON farthing.routers TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.router_promotions ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.router_promotions FORCE ROW LEVEL SECURITY;
CREATE POLICY all_tenants ON farthing.router_promotions TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.outcomes ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.outcomes FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.outcomes TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.outcomes TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.edge_answers ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.edge_answers FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.edge_answers TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.edge_answers TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.foreseen ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.foreseen FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.foreseen TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.foreseen TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.foresight_counts ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.foresight_counts FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.foresight_counts TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.foresight_counts TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.foresight_reports ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.foresight_reports FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.foresight_reports TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.foresight_reports TO farthing_service USING (true) WITH CHECK (true);

-- A tenant's own connection only reads. What is written is written by the service role, in batches over many tenants.
GRANT USAGE ON SCHEMA farthing TO farthing_app, farthing_service;
GRANT SELECT ON farthing.keys, farthing.ledger, farthing.ledger_daily, farthing.answers TO farthing_app;
GRANT SELECT, INSERT, UPDATE ON farthing.keys, farthing.ledger_daily TO farthing_service;
GRANT SELECT, INSERT ON farthing.ledger TO farthing_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.answers TO farthing_service;
GRANT SELECT ON farthing.budgets TO farthing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.budgets, farthing.budget_spend, farthing.budget_leases TO farthing_service;
GRANT SELECT ON farthing.responses TO farthing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.responses TO farthing_service;
GRANT SELECT ON farthing.retention, farthing.transcripts, farthing.erasures TO farthing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.retention, farthing.transcripts, farthing.erasures TO farthing_service;
GRANT SELECT ON farthing.questions, farthing.cache_hits, farthing.cache_verdicts TO farthing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.questions, farthing.cache_hits, farthing.cache_verdicts TO farthing_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.config, farthing.config_history TO farthing_service;
GRANT SELECT ON farthing.outcomes TO farthing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.routers, farthing.router_promotions, farthing.outcomes TO farthing_service;
GRANT SELECT ON farthing.edge_answers, farthing.foreseen, farthing.foresight_counts, farthing.foresight_reports TO farthing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.edge_answers, farthing.foreseen, farthing.foresight_counts, farthing.foresight_reports
  TO farthing_service;
