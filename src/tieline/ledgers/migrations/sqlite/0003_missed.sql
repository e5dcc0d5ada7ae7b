-- What the last sweep missed: where nobody can be asked, only what the next one misses too is gone.
create table missed (source integer not null, record text not null, fresh integer not null, primary key (source, record))
    strict, without rowid;
delete from note where name like 'missing/%';
insert into sqlite_stat1 (tbl, idx, stat) values ('missed', 'missed', '1000000 100000 1');
analyze sqlite_schema;
