DROP TABLE farthing.events, farthing.event_names, farthing.event_subscriptions, farthing.event_deliveries, farthing.event_lanes,
  farthing.event_dead_letters, farthing.state_versions;
DELETE FROM farthing.erasures WHERE what = 'events';
