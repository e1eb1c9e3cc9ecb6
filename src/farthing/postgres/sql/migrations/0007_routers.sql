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

GRANT SELECT ON farthing.outcomes TO farthing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.routers, farthing.router_promotions, farthing.outcomes TO farthing_service;
