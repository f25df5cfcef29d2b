-- What may be spent, and what was.

-- What an attempt may use, as whoever asked for it said: JSON. Null: as much as its environment and the installation give.
alter table attempt add column limits text;

-- What may be spent in a calendar month. No row: any amount.
create table budget (
    organization_id uuid not null references organization (id),
    -- The organization's own id, or that of one of its members.
    owner_id uuid not null,
    -- Null: any number.
    tokens bigint,
    cost_usd_micros bigint,
    changed_by uuid not null references account (id),
    changed_at bigint not null,
    primary key (organization_id, owner_id)
);

-- What was spent in it: moved by the transaction that stores what a model's answer has cost.
create table spending (
    organization_id uuid not null references organization (id),
    owner_id uuid not null,
    -- Such as 202611, by UTC.
    month bigint not null,
    tokens bigint not null,
    cost_usd_micros bigint not null,
    primary key (organization_id, owner_id, month)
);
