"""PostgreSQL 15 or newer, given or embedded: keys, the ledger, the shared tier of the exact cache, and news between workers."""
