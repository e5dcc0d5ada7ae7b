-- Names are interned: the big tables hold integers. A text that cannot be stored or indexed as it is (very
-- long, with NUL) stands in those tables as a short form, and in full here. Texts of an index are ordered by
-- their bytes, as everywhere; tables whose rows change keep room on their pages for it.
create table name (id integer generated always as identity primary key, name text collate "C" not null unique);
create table odd_text (short text collate "C" primary key, whole bytea not null);
create table note (name text collate "C" primary key, value text not null);

create table worker (owner text collate "C" primary key, expires float8 not null) with (fillfactor = 50);
create table lease (name text collate "C" primary key, owner text not null, token bigint not null) with (fillfactor = 50);

create table source (
    source integer primary key,
    epoch bigint not null,
    counter bigint not null,
    sequence bigint not null,
    cursor text not null,
    mapping bigint not null,
    read_at float8 not null,
    swept_at float8 not null,
    failure text not null
) with (fillfactor = 50);

create table seen (
    source integer not null,
    key text collate "C" not null,
    record text collate "C" not null,
    epoch bigint not null,
    counter bigint not null,
    edit integer not null,
    message_id bytea not null,
    record_digest bytea not null,
    entity_digest bytea not null,
    mapping bigint not null,
    gone smallint not null,
    origin text not null,
    at float8 not null,
    primary key (source, key)
) with (fillfactor = 85);
create index seen_record on seen (source, record, gone);

-- Marks of a sweep under way.
create table sweep (source integer not null, record text collate "C" not null, primary key (source, record));

create table channel (channel integer primary key, partitions integer not null);
-- `last` is the last position given, `total` how many messages were ever appended.
create table channel_partition (
    channel integer not null,
    partition integer not null,
    last bigint not null,
    total bigint not null,
    primary key (channel, partition)
) with (fillfactor = 50);
-- Rows up to `position` are dropped; apart from the row above, which publishers lock.
create table channel_trimmed (
    channel integer not null,
    partition integer not null,
    position bigint not null,
    primary key (channel, partition)
) with (fillfactor = 50);
create table subscription (
    channel integer not null,
    subscription integer not null,
    partition integer not null,
    position bigint not null,
    primary key (channel, subscription, partition)
) with (fillfactor = 50);
-- `total` is the partition's total up to and with this row: the depth is a difference of two.
create table kept (
    channel integer not null,
    partition integer not null,
    position bigint not null,
    sequence bigint not null,
    count bigint not null,
    total bigint not null,
    data bytea not null,
    primary key (channel, partition, position)
);
alter table kept alter column data set storage external; -- compressing a batch takes longer than writing it

create table leg (
    leg integer primary key,
    flow text not null,
    source text not null,
    target text not null,
    entity text not null,
    ways text not null,
    paused text not null,
    probe_at float8 not null
);
-- What came in stands under the outcome '': its own row, so that a reader and a deliverer do not meet.
create table leg_count (
    leg integer not null,
    outcome text collate "C" not null,
    count bigint not null,
    primary key (leg, outcome)
) with (fillfactor = 50);
create table leg_state (
    leg integer not null,
    channel integer not null,
    partition integer not null,
    position bigint not null,
    sequence bigint not null,
    token bigint not null,
    counts text not null,
    primary key (leg, channel, partition)
) with (fillfactor = 50);

create table held (
    target integer not null,
    entity integer not null,
    key text collate "C" not null,
    source integer not null,
    epoch bigint not null,
    counter bigint not null,
    edit integer not null,
    message_id bytea not null,
    digest bytea not null,
    target_id text,
    version_tag text,
    deleted smallint not null,
    step integer not null,
    claim bytea not null,
    claimed_at float8 not null,
    claim_epoch bigint not null,
    claim_counter bigint not null,
    claim_edit integer not null,
    primary key (target, entity, key, source)
) with (fillfactor = 85);
create index held_claim on held (target, entity) where length(claim) > 0;

create table parked (
    leg integer not null,
    key text collate "C" not null,
    message_id bytea not null,
    epoch bigint not null,
    counter bigint not null,
    edit integer not null,
    reason text collate "C" not null,
    message bytea not null,
    error text not null,
    subject text collate "C" not null,
    attempt integer not null,
    not_before float8 not null,
    waits_entity integer,
    waits_key text collate "C",
    partition integer not null,
    position bigint not null,
    decision text not null,
    decided_by text not null,
    parked_at float8 not null,
    force smallint not null,
    -- From when on the leg's holder has something to do with it; null: nothing until something changes.
    due float8 generated always as (
        case when decision <> '' then 0.0 when reason in ('retry', 'in doubt') then not_before end
    ) stored,
    primary key (leg, key)
) with (fillfactor = 85);
create index parked_due on parked (leg, due, epoch, counter) where due is not null;
create index parked_waiting on parked (leg, epoch, counter) where reason in ('reference', 'order');
create index parked_reference on parked (waits_entity, waits_key) where reason = 'reference';
create index parked_subject on parked (leg, subject);
create index parked_reason on parked (leg, reason);

create table inbox (
    source integer not null,
    position bigint not null,
    record text collate "C" not null,
    data bytea not null,
    origin text not null,
    primary key (source, position)
);
create table inbox_end (source integer primary key, last bigint not null);
