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

GRANT SELECT ON farthing.edge_answers, farthing.foreseen, farthing.foresight_counts, farthing.foresight_reports TO farthing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.edge_answers, farthing.foreseen, farthing.foresight_counts, farthing.foresight_reports
  TO farthing_service;
