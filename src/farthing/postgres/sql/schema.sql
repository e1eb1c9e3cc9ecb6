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
  memory text,
  answer_key text COLLATE "C",
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
  user_id text, -- on whose behalf the answer was made, where that is known: it may say something of him
  PRIMARY KEY (tenant, key)
);
CREATE INDEX answers_created_at ON farthing.answers (created_at);
CREATE INDEX answers_expires_at ON farthing.answers (expires_at);
CREATE INDEX answers_user_id ON farthing.answers (tenant, user_id) WHERE user_id IS NOT NULL;

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

-- name: a digest of the source and the id, by which an event is known. It says nothing of what happened to whom.
CREATE TABLE farthing.events (
  position bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
  tenant text COLLATE "C" NOT NULL,
  name bytea NOT NULL,
  source text NOT NULL,
  id text NOT NULL,
  type text NOT NULL,
  subject text,
  user_id text,
  time timestamptz NOT NULL,
  data json,
  extensions json NOT NULL,
  touches text[] NOT NULL,
  received_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX events_name ON farthing.events (tenant, name);
CREATE INDEX events_tenant ON farthing.events (tenant, position);
CREATE INDEX events_user_id ON farthing.events (tenant, user_id) WHERE user_id IS NOT NULL;

CREATE TABLE farthing.event_names (
  tenant text COLLATE "C" NOT NULL,
  name bytea NOT NULL,
  at timestamptz NOT NULL,
  PRIMARY KEY (tenant, name)
);
CREATE INDEX event_names_at ON farthing.event_names (at);

CREATE TABLE farthing.event_subscriptions (
  handler text COLLATE "C" PRIMARY KEY,
  types text[] NOT NULL,
  per text NOT NULL,
  most integer NOT NULL,
  linger_s double precision NOT NULL
);

CREATE TABLE farthing.event_deliveries (
  handler text COLLATE "C" NOT NULL,
  tenant text COLLATE "C" NOT NULL,
  lane text COLLATE "C" NOT NULL,
  position bigint NOT NULL,
  due_at timestamptz NOT NULL,
  attempts integer NOT NULL DEFAULT 0,
  PRIMARY KEY (handler, tenant, lane, position)
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX event_deliveries_position ON farthing.event_deliveries (position);

-- A lane has a row while it has deliveries. ready_at: when the next one is due, or when the lease of the one under way ends.
CREATE TABLE farthing.event_lanes (
  handler text COLLATE "C" NOT NULL,
  tenant text COLLATE "C" NOT NULL,
  lane text COLLATE "C" NOT NULL,
  ready_at timestamptz NOT NULL,
  token bigint,
  tried integer NOT NULL DEFAULT 0,
  upto bigint,
  PRIMARY KEY (handler, tenant, lane)
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX event_lanes_ready_at ON farthing.event_lanes (handler, ready_at);

CREATE TABLE farthing.event_dead_letters (
  id uuid PRIMARY KEY,
  handler text COLLATE "C" NOT NULL,
  tenant text COLLATE "C" NOT NULL,
  position bigint NOT NULL,
  attempts integer NOT NULL,
  error text NOT NULL,
  at timestamptz NOT NULL
);
CREATE INDEX event_dead_letters_at ON farthing.event_dead_letters (at);
CREATE INDEX event_dead_letters_position ON farthing.event_dead_letters (position);

CREATE TABLE farthing.state_versions (
  tenant text COLLATE "C" NOT NULL,
  state text COLLATE "C" NOT NULL,
  version bigint NOT NULL,
  at timestamptz NOT NULL,
  PRIMARY KEY (tenant, state)
);

CREATE TABLE farthing.runs (
  id uuid PRIMARY KEY,
  tenant text NOT NULL,
  kind text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  wide integer NOT NULL,
  attempts integer NOT NULL,
  deadline_s double precision NOT NULL,
  backoff_s double precision NOT NULL,
  state text NOT NULL,
  -- How many items were added. Their last states are counted where they are, until the run has ended.
  added bigint NOT NULL,
  done bigint NOT NULL,
  failed bigint NOT NULL,
  cancelled bigint NOT NULL,
  created_at timestamptz NOT NULL,
  ended_at timestamptz,
  CONSTRAINT runs_name UNIQUE (tenant, kind, name)
);
CREATE INDEX runs_under_way ON farthing.runs (id) WHERE ended_at IS NULL;
CREATE INDEX runs_ended ON farthing.runs (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE farthing.items (
  id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
  tenant text NOT NULL,
  run uuid NOT NULL,
  position bigint NOT NULL,
  key text COLLATE "C" NOT NULL,
  payload json NOT NULL,
  state text COLLATE "C" NOT NULL,
  -- How often it was leased. What a worker says of an older lease than the last one counts for nothing.
  lease integer NOT NULL,
  attempts integer NOT NULL,
  result json,
  error text,
  at timestamptz NOT NULL,
  CONSTRAINT items_key UNIQUE (run, key)
);
CREATE INDEX items_position ON farthing.items (run, position);
CREATE INDEX items_state ON farthing.items (run, state, position);

CREATE TABLE farthing.schedules (
  name text COLLATE "C" PRIMARY KEY,
  expression text NOT NULL,
  next_at timestamptz NOT NULL
);

-- The queue of items is pgqueuer's (version 1.6), with its columns and indexes. An entry is of one item: its payload is the item's id, its
-- entrypoint the run's. Not its trigger, which would tell of every change; not its tables of statistics and schedules, which nobody asks.
CREATE TYPE farthing.pgqueuer_status AS ENUM ('queued', 'picked', 'successful', 'exception', 'canceled', 'deleted', 'failed');
CREATE TABLE farthing.pgqueuer (
  id bigserial NOT NULL PRIMARY KEY,
  priority integer NOT NULL,
  queue_manager_id uuid,
  created timestamptz NOT NULL DEFAULT now(),
  updated timestamptz NOT NULL DEFAULT now(),
  heartbeat timestamptz NOT NULL DEFAULT now(),
  execute_after timestamptz NOT NULL DEFAULT now(),
  status farthing.pgqueuer_status NOT NULL,
  entrypoint text NOT NULL,
  dedupe_key text,
  payload bytea,
  headers jsonb,
  attempts integer NOT NULL DEFAULT 0,
  slot bigint
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, fillfactor = 70);
CREATE INDEX pgqueuer_ep_ea_idx ON farthing.pgqueuer (entrypoint, execute_after) WHERE status = 'queued';
CREATE INDEX pgqueuer_ep_prio_id_idx ON farthing.pgqueuer (entrypoint, priority DESC, id) WHERE status = 'queued';
CREATE INDEX pgqueuer_picked_heartbeat_idx ON farthing.pgqueuer (heartbeat) WHERE status = 'picked';
CREATE UNIQUE INDEX pgqueuer_picked_slot_idx ON farthing.pgqueuer (entrypoint, slot) WHERE status = 'picked' AND slot IS NOT NULL;
CREATE INDEX pgqueuer_queue_manager_id_idx ON farthing.pgqueuer (queue_manager_id) WHERE queue_manager_id IS NOT NULL;
CREATE UNIQUE INDEX pgqueuer_unique_dedupe_key ON farthing.pgqueuer (dedupe_key)
  WHERE status = ANY (ARRAY['queued'::farthing.pgqueuer_status, 'picked'::farthing.pgqueuer_status]) AND dedupe_key IS NOT NULL;

-- pgqueuer writes down each pick and each end. Nothing is read from it, and it is emptied now and then.
CREATE UNLOGGED TABLE farthing.pgqueuer_log (
  id bigint GENERATED BY DEFAULT AS IDENTITY NOT NULL PRIMARY KEY,
  created timestamptz NOT NULL DEFAULT now(),
  job_id bigint NOT NULL,
  status farthing.pgqueuer_status NOT NULL,
  priority integer NOT NULL,
  entrypoint text NOT NULL,
  traceback jsonb,
  aggregated boolean DEFAULT false
);

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

ALTER TABLE farthing.turns ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.turns FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.turns TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.turns TO farthing_service USING (true) WITH CHECK (true);

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

ALTER TABLE farthing.events ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.events FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.events TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.events TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.event_names ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.event_names FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.event_names TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.event_names TO farthing_service USING (true) WITH CHECK (true);

-- Who hears of events is the installation's and not a tenant's: only the service role sees it.
ALTER TABLE farthing.event_subscriptions ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.event_subscriptions FORCE ROW LEVEL SECURITY;
CREATE POLICY all_tenants ON farthing.event_subscriptions TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.event_deliveries ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.event_deliveries FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.event_deliveries TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.event_deliveries TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.event_lanes ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.event_lanes FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.event_lanes TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.event_lanes TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.event_dead_letters ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.event_dead_letters FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.event_dead_letters TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.event_dead_letters TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.state_versions ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.state_versions FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.state_versions TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.state_versions TO farthing_service USING (true) WITH CHECK (true);
ALTER TABLE farthing.runs ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.runs FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.runs TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.runs TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.items ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.items FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.items TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.items TO farthing_service USING (true) WITH CHECK (true);

-- They are of no tenant: only the service role sees them.
ALTER TABLE farthing.schedules ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.schedules FORCE ROW LEVEL SECURITY;
CREATE POLICY all_tenants ON farthing.schedules TO farthing_service USING (true) WITH CHECK (true);
ALTER TABLE farthing.pgqueuer ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.pgqueuer FORCE ROW LEVEL SECURITY;
CREATE POLICY all_tenants ON farthing.pgqueuer TO farthing_service USING (true) WITH CHECK (true);
ALTER TABLE farthing.pgqueuer_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.pgqueuer_log FORCE ROW LEVEL SECURITY;
CREATE POLICY all_tenants ON farthing.pgqueuer_log TO farthing_service USING (true) WITH CHECK (true);
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
ALTER TABLE farthing.feedback ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.feedback FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.feedback TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.feedback TO farthing_service USING (true) WITH CHECK (true);

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
GRANT SELECT ON farthing.turns TO farthing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.turns TO farthing_service;
GRANT SELECT ON farthing.outcomes TO farthing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.routers, farthing.router_promotions, farthing.outcomes TO farthing_service;

-- What rules count: events of a user, by the time at which they happened.
CREATE TABLE farthing.memory_sightings (
  tenant text NOT NULL,
  user_id text NOT NULL,
  rule text COLLATE "C" NOT NULL,
  event text COLLATE "C" NOT NULL,
  alike bytea NOT NULL CHECK (octet_length(alike) = 32),
  at timestamptz NOT NULL,
  arrived timestamptz NOT NULL,
  PRIMARY KEY (tenant, user_id, rule, event)
);
CREATE INDEX memory_sightings_alike ON farthing.memory_sightings (tenant, user_id, rule, alike, at, event);
CREATE INDEX memory_sightings_at ON farthing.memory_sightings (at);

-- Events that a model has read: the SHA-256 of what they are called.
CREATE TABLE farthing.memory_read (
  tenant text NOT NULL,
  user_id text NOT NULL,
  event bytea NOT NULL CHECK (octet_length(event) = 32),
  at timestamptz NOT NULL,
  PRIMARY KEY (tenant, user_id, event)
);
CREATE INDEX memory_read_at ON farthing.memory_read (at);

-- What that has cost, questions under way included. user_id '': all of the tenant.
CREATE TABLE farthing.memory_spend (
  tenant text NOT NULL,
  day date NOT NULL,
  user_id text NOT NULL,
  microusd bigint NOT NULL,
  calls bigint NOT NULL,
  PRIMARY KEY (tenant, day, user_id)
);
CREATE INDEX memory_spend_day ON farthing.memory_spend (day);

ALTER TABLE farthing.memory_sightings ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.memory_sightings FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.memory_sightings TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.memory_sightings TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.memory_read ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.memory_read FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.memory_read TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.memory_read TO farthing_service USING (true) WITH CHECK (true);

ALTER TABLE farthing.memory_spend ENABLE ROW LEVEL SECURITY;
ALTER TABLE farthing.memory_spend FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON farthing.memory_spend TO farthing_app
  USING (tenant = nullif(current_setting('farthing.tenant', true), '')) WITH CHECK (tenant = nullif(current_setting('farthing.tenant', true), ''));
CREATE POLICY all_tenants ON farthing.memory_spend TO farthing_service USING (true) WITH CHECK (true);

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

GRANT SELECT ON farthing.memory_sightings, farthing.memory_read, farthing.memory_spend TO farthing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.memory_sightings, farthing.memory_read, farthing.memory_spend TO farthing_service;
GRANT SELECT ON farthing.events, farthing.event_names, farthing.event_deliveries, farthing.event_lanes, farthing.event_dead_letters,
  farthing.state_versions TO farthing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.events, farthing.event_names, farthing.event_subscriptions, farthing.event_deliveries,
  farthing.event_lanes, farthing.event_dead_letters, farthing.state_versions TO farthing_service;
GRANT SELECT ON farthing.runs, farthing.items TO farthing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.runs, farthing.items, farthing.schedules, farthing.pgqueuer, farthing.pgqueuer_log TO farthing_service;
GRANT USAGE, SELECT ON SEQUENCE farthing.pgqueuer_id_seq TO farthing_service;
GRANT SELECT ON farthing.facts, farthing.profiles, farthing.receipts TO farthing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.facts, farthing.profiles, farthing.receipts TO farthing_service;
GRANT SELECT ON farthing.feedback TO farthing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.feedback TO farthing_service;
GRANT SELECT ON farthing.edge_answers, farthing.foreseen, farthing.foresight_counts, farthing.foresight_reports TO farthing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.edge_answers, farthing.foreseen, farthing.foresight_counts, farthing.foresight_reports
  TO farthing_service;
