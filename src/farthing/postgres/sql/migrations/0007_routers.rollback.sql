DROP TABLE farthing.outcomes, farthing.router_promotions, farthing.routers;
DELETE FROM farthing.erasures WHERE what = 'outcomes';
