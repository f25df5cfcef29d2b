-- The first tables. Portable between SQLite and PostgreSQL: times are milliseconds since 1970 as bigint, structured
-- values are JSON as text, ids are uuid. Every row that belongs to somebody carries its organization.

create table organization (
    id uuid primary key,
    name text not null,
    created_at bigint not null
);

create table account (
    id uuid primary key,
    name text not null,
    created_at bigint not null
);

create table member (
    organization_id uuid not null references organization (id),
    account_id uuid not null references account (id),
    role text not null,
    primary key (organization_id, account_id)
);

create table api_token (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    account_id uuid not null references account (id),
    hash text not null unique,
    name text not null,
    created_at bigint not null,
    expires_at bigint,
    revoked_at bigint
);

create table owner_link (
    hash text primary key,
    organization_id uuid not null references organization (id),
    account_id uuid not null references account (id),
    expires_at bigint not null,
    used_at bigint
);

create table web_session (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    account_id uuid not null references account (id),
    hash text not null unique,
    created_at bigint not null,
    expires_at bigint not null
);

create table repository (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    location text not null,
    created_at bigint not null,
    used_at bigint not null,
    unique (organization_id, location)
);

create table environment (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    name text not null,
    version bigint not null,
    unique (organization_id, name)
);

-- What an environment was at each of its versions: attempts pin one.
create table environment_version (
    environment_id uuid not null references environment (id),
    version bigint not null,
    organization_id uuid not null references organization (id),
    image text not null,
    created_at bigint not null,
    primary key (environment_id, version)
);

create table task (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    repository_id uuid not null references repository (id),
    environment_id uuid not null references environment (id),
    revision text not null,
    title text not null,
    created_by uuid not null references account (id),
    created_at bigint not null,
    updated_at bigint not null,
    last_seq bigint not null
);

create index task_by_age on task (organization_id, id);

create table turn (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    task_id uuid not null references task (id),
    number bigint not null,
    prompt text not null,
    mode text not null,
    from_attempt_id uuid,
    created_by uuid not null references account (id),
    created_at bigint not null,
    unique (task_id, number)
);

create table attempt (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    task_id uuid not null references task (id),
    turn_id uuid not null references turn (id),
    number bigint not null,
    state text not null,
    -- What lists show of the state, so that they need not read answers and names of files.
    standing text not null,
    additions bigint,
    deletions bigint,
    version bigint not null,
    environment_id uuid not null,
    environment_version bigint not null,
    model text not null,
    base_commit text,
    token_usage text not null,
    cancel_requested_by text,
    created_at bigint not null,
    started_at bigint,
    ended_at bigint,
    unique (turn_id, number),
    foreign key (environment_id, environment_version) references environment_version (environment_id, version)
);

create index attempt_by_task on attempt (task_id);

create table event (
    task_id uuid not null references task (id),
    seq bigint not null,
    organization_id uuid not null references organization (id),
    attempt_id uuid,
    at bigint not null,
    kind text not null,
    body text not null,
    primary key (task_id, seq)
);

create index event_by_attempt on event (attempt_id, kind, seq);

create table publication (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    task_id uuid not null references task (id),
    attempt_id uuid not null references attempt (id),
    branch text not null,
    message text not null,
    state text not null,
    version bigint not null,
    created_by uuid not null references account (id),
    created_at bigint not null
);

create index publication_by_task on publication (task_id);

create table artifact (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    attempt_id uuid not null references attempt (id),
    name text not null,
    sha256 text not null,
    size_bytes bigint not null,
    created_at bigint not null,
    unique (attempt_id, name)
);

-- Work that is to be done: claimed under a lease, taken out when it is finished.
create table job (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    kind text not null,
    subject_id uuid not null,
    run_at bigint not null,
    lease_owner text,
    lease_until bigint,
    tries bigint not null,
    created_at bigint not null,
    unique (kind, subject_id)
);

create index job_by_time on job (run_at);
