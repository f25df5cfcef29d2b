-- Repositories that are named by a path are on some machines and not on others.

-- A worker whose machine has it, as far as is known. Null: none is known.
alter table repository add column worker_id uuid;

-- Workers that have passed a job on, because what it needs is not on their machines.
create table job_passed_on (
    job_id uuid not null references job (id) on delete cascade,
    worker_id uuid not null,
    primary key (job_id, worker_id)
);
