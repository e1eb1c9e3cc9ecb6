DROP TABLE farthing.memory_sightings, farthing.memory_read, farthing.memory_spend;
DELETE FROM farthing.erasures WHERE what = 'sightings';
