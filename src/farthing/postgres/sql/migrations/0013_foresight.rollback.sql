DROP TABLE farthing.foresight_reports, farthing.foresight_counts, farthing.foreseen, farthing.edge_answers;
DELETE FROM farthing.erasures WHERE what IN ('edge_answers', 'foreseen');
