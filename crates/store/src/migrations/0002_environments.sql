-- Environments as they can be made and changed: what each version says, their sealed secrets, and kept snapshots.

-- JSON of carrel_domain::EnvironmentSpec; null in the versions that were made before there were any.
alter table environment_version add column spec text;
alter table environment_version add column created_by uuid references account (id);

-- A name is free again once its environment is deleted: the row's own becomes one that nobody can ask for, and what it
-- was called is kept here.
alter table environment add column deleted_at bigint;
alter table environment add column deleted_name text;

-- Values of secrets, sealed. A version of an environment names those it means by name, kind and version.
create table secret (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    environment_id uuid not null references environment (id),
    name text not null,
    kind text not null,
    version bigint not null,
    -- The id of the installation's key that it is sealed under, to find what a rotation must seal anew.
    sealed_under text not null,
    sealed text not null,
    created_at bigint not null,
    unique (environment_id, name, kind, version)
);

-- Prepared environments that are kept as layers.
create table snapshot (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    environment_id uuid not null references environment (id),
    repository_id uuid not null references repository (id),
    snapshot_key text not null,
    -- JSON: from the name of each part of the key to its hash, to tell which one differs.
    parts text not null,
    layer text not null,
    image_digest text,
    -- JSON: rules of the hosts that the image's package managers use.
    package_hosts text not null,
    size_bytes bigint,
    state text not null,
    created_at bigint not null,
    expires_at bigint not null,
    last_used_at bigint not null
);

create index snapshot_by_subject on snapshot (environment_id, repository_id, created_at);

create index snapshot_by_end on snapshot (expires_at);

create index snapshot_by_use on snapshot (last_used_at);

-- Attempts under way are looked for by the environment they are pinned to.
create index attempt_by_environment on attempt (environment_id, ended_at);
