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
