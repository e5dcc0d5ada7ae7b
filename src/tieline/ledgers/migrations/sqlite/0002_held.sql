-- The batch that a held row's message came with: delivered again after an outage, it is known to be done. And when.
alter table held add column sequence integer not null default 0;
alter table held add column at real not null default 0;
