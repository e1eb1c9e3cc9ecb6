DROP TABLE farthing.config_history, farthing.config;
