DROP TABLE farthing.answers, farthing.ledger_daily, farthing.ledger, farthing.keys;
REVOKE USAGE ON SCHEMA farthing FROM farthing_app, farthing_service;
