-- What people say to attempts that work, and attempts that are made again.

create table message (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    attempt_id uuid not null references attempt (id),
    body text not null,
    created_by uuid not null references account (id),
    created_at bigint not null,
    -- Null while it waits. Set in the transaction that stores the message's item of the conversation.
    delivered_at bigint
);

create index message_by_attempt on message (attempt_id, delivered_at);

-- The attempt that a retry makes again, and whether it goes on from that one's conversation and files (1) or not (0).
alter table attempt add column retry_of uuid;
alter table attempt add column resumes bigint;

create index attempt_by_retry on attempt (retry_of);

-- Files that people give. Their bytes lie among the artifacts, under their hash.
create table attachment (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    name text not null,
    sha256 text not null,
    size_bytes bigint not null,
    -- The type of an image; null for anything else.
    media_type text,
    created_by uuid not null references account (id),
    created_at bigint not null
);

create index attachment_by_hash on attachment (sha256);

create index artifact_by_hash on artifact (sha256);

-- Those that go along with a turn, with the names they have in its sandboxes.
create table turn_attachment (
    turn_id uuid not null references turn (id),
    attachment_id uuid not null references attachment (id),
    organization_id uuid not null references organization (id),
    task_id uuid not null references task (id),
    position bigint not null,
    name text not null,
    primary key (turn_id, attachment_id),
    unique (task_id, name)
);

create index turn_attachment_by_attachment on turn_attachment (attachment_id);
