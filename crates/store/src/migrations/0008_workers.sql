-- Several processes that work on one database.

-- Whoever works, or did. One that was not seen for a while is gone until it is seen again.
create table worker (
    id uuid primary key,
    -- What people know its machine by.
    name text not null,
    -- How many attempts it works on at once.
    capacity bigint not null,
    started_at bigint not null,
    seen_at bigint not null
);

-- Whose machine has the sandbox and the files of the attempt. Null: nobody's yet.
alter table attempt add column worker_id uuid;

create index attempt_by_worker on attempt (worker_id, ended_at);

-- Who should take the job, because what it goes on from is there. Null: anybody.
alter table job add column worker_id uuid;

-- Whose machine has the layer.
alter table snapshot add column worker_id uuid;

create index snapshot_by_worker on snapshot (worker_id, id);

-- The digests of an organization's images are looked for in its latest recipes.
create index recipe_by_organization on recipe (organization_id, attempt_id);
