-- Names are interned: the big tables hold integers. A text that cannot be stored or indexed as it is (very
-- long, with NUL) stands in those tables as a short form, and in full here.
create table name (id integer primary key, name text not null unique) strict;
create table odd_text (short text primary key, whole blob not null) strict, without rowid;
create table topic (topic text primary key, rung integer not null) strict, without rowid;
create unique index topic_rung on topic (rung);
create table note (name text primary key, value text not null) strict, without rowid;

create table worker (owner text primary key, expires real not null) strict, without rowid;
create table lease (name text primary key, owner text not null, token integer not null) strict, without rowid;

create table source (
    source integer primary key,
    epoch integer not null,
    counter integer not null,
    sequence integer not null,
    cursor text not null,
    mapping integer not null,
    read_at real not null,
    swept_at real not null,
    failure text not null
) strict;

create table seen (
    source integer not null,
    key text not null,
    record text not null,
    epoch integer not null,
    counter integer not null,
    edit integer not null,
    message_id blob not null,
    record_digest blob not null,
    entity_digest blob not null,
    mapping integer not null,
    gone integer not null,
    origin text not null,
    at real not null,
    primary key (source, key)
) strict, without rowid;
create index seen_record on seen (source, record, gone);

-- Marks of a sweep under way.
create table sweep (source integer not null, record text not null, primary key (source, record))
    strict, without rowid;

create table channel (channel integer primary key, partitions integer not null) strict;
-- `last` is the last position given, `total` how many messages were ever appended.
create table channel_partition (
    channel integer not null,
    partition integer not null,
    last integer not null,
    total integer not null,
    primary key (channel, partition)
) strict, without rowid;
-- Rows up to `position` are dropped; apart from the row above, which publishers lock.
create table channel_trimmed (
    channel integer not null,
    partition integer not null,
    position integer not null,
    primary key (channel, partition)
) strict, without rowid;
create table subscription (
    channel integer not null,
    subscription integer not null,
    partition integer not null,
    position integer not null,
    primary key (channel, subscription, partition)
) strict, without rowid;
-- `total` is the partition's total up to and with this row: the depth is a difference of two.
create table kept (
    channel integer not null,
    partition integer not null,
    position integer not null,
    sequence integer not null,
    count integer not null,
    total integer not null,
    data blob not null,
    primary key (channel, partition, position)
) strict;

create table leg (
    leg integer primary key,
    flow text not null,
    source text not null,
    target text not null,
    entity text not null,
    ways text not null,
    paused text not null,
    probe_at real not null
) strict;
-- What came in stands under the outcome '': its own row, so that a reader and a deliverer do not meet.
create table leg_count (
    leg integer not null,
    outcome text not null,
    count integer not null,
    primary key (leg, outcome)
) strict, without rowid;
create table leg_state (
    leg integer not null,
    channel integer not null,
    partition integer not null,
    position integer not null,
    sequence integer not null,
    token integer not null,
    counts text not null,
    primary key (leg, channel, partition)
) strict, without rowid;

create table held (
    target integer not null,
    entity integer not null,
    key text not null,
    source integer not null,
    epoch integer not null,
    counter integer not null,
    edit integer not null,
    message_id blob not null,
    digest blob not null,
    target_id text,
    version_tag text,
    deleted integer not null,
    step integer not null,
    claim blob not null,
    claimed_at real not null,
    claim_epoch integer not null,
    claim_counter integer not null,
    claim_edit integer not null,
    primary key (target, entity, key, source)
) strict, without rowid;
create index held_claim on held (target, entity) where length(claim) > 0;

create table parked (
    leg integer not null,
    key text not null,
    message_id blob not null,
    epoch integer not null,
    counter integer not null,
    edit integer not null,
    reason text not null,
    message blob not null,
    error text not null,
    subject text not null,
    attempt integer not null,
    not_before real not null,
    waits_entity integer,
    waits_key text,
    partition integer not null,
    position integer not null,
    decision text not null,
    decided_by text not null,
    parked_at real not null,
    force integer not null,
    -- From when on the leg's holder has something to do with it; null: nothing until something changes.
    due real generated always as (
        case when decision <> '' then 0.0 when reason in ('retry', 'in doubt') then not_before end
    ) virtual,
    primary key (leg, key)
) strict;
create index parked_due on parked (leg, due, epoch, counter) where due is not null;
create index parked_waiting on parked (leg, epoch, counter) where reason in ('reference', 'order');
create index parked_reference on parked (waits_entity, waits_key) where reason = 'reference';
create index parked_subject on parked (leg, subject);
create index parked_reason on parked (leg, reason);

create table inbox (
    source integer not null,
    position integer not null,
    record text not null,
    data blob not null,
    origin text not null,
    primary key (source, position)
) strict;
create table inbox_end (source integer primary key, last integer not null) strict;

-- The planner takes one source for ten rows unless it is told: rows of the table, then rows to expect for one
-- value of the index's first column, of its first two, and so on.
analyze sqlite_schema;
insert into sqlite_stat1 (tbl, idx, stat) values
    ('seen', 'seen', '1000000 100000 1'),
    ('seen', 'seen_record', '1000000 100000 1 1'),
    ('sweep', 'sweep', '1000000 100000 1'),
    ('kept', 'sqlite_autoindex_kept_1', '100000 10000 2000 1'),
    ('held', 'held', '1000000 500000 100000 1 1'),
    ('held', 'held_claim', '1000 500 100'),
    ('parked', 'sqlite_autoindex_parked_1', '100000 10000 1'),
    ('parked', 'parked_due', '10000 1000 10 1 1'),
    ('parked', 'parked_waiting', '10000 1000 1000 1'),
    ('parked', 'parked_reference', '10000 5000 10'),
    ('parked', 'parked_subject', '100000 10000 10'),
    ('parked', 'parked_reason', '100000 10000 5000');
analyze sqlite_schema;
