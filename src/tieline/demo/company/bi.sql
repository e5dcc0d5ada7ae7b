-- The BI database of the demo; amounts are text, so that SQLite keeps every digit.
create table if not exists orders (number text primary key, customer text, placed_at text, total text, currency text);
create table if not exists invoices (number text primary key, customer text, date text, total text, currency text);
create table if not exists requests (number text primary key, title text, asset text, reported_at text);
