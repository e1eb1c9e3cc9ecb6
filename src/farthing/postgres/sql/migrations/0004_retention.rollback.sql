DROP TABLE farthing.erasures, farthing.transcripts, farthing.retention;
