DROP TABLE farthing.pgqueuer_log, farthing.pgqueuer, farthing.schedules, farthing.items, farthing.runs;
DROP TYPE farthing.pgqueuer_status;
