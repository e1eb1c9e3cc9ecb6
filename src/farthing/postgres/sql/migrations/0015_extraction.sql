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

GRANT SELECT ON farthing.memory_sightings, farthing.memory_read, farthing.memory_spend TO farthing_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON farthing.memory_sightings, farthing.memory_read, farthing.memory_spend TO farthing_service;
