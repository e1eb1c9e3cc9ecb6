DROP TABLE farthing.responses;
