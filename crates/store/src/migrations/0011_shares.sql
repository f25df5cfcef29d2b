-- Who shares the workers with whom: persons and organizations in turn, some tasks before others, no more at once than allowed.

-- -1: after the others, 0, 1: before them.
alter table task add column priority bigint not null default 0;

-- Who asked for it. The default is nobody's: what a binary from before this column writes.
alter table job add column account_id uuid not null default '00000000-0000-0000-0000-000000000000';

-- Which of a person's jobs is next: the time it was asked for, moved by its task's priority.
alter table job add column rank_at bigint not null default 0;

-- When an attempt's job was first claimed. From then on until it is done it counts as running, whoever has it. Null: it waits.
alter table job add column begun_at bigint;

update job set rank_at = run_at;

update job set account_id = (select t.created_by from attempt a join turn t on t.id = a.turn_id where a.id = job.subject_id)
    where kind = 'attempt' and exists (select 1 from attempt a where a.id = job.subject_id);

update job set account_id = (select p.created_by from publication p where p.id = job.subject_id)
    where kind = 'publication' and exists (select 1 from publication p where p.id = job.subject_id);

update job set begun_at = run_at where kind = 'attempt' and (lease_owner is not null
    or exists (select 1 from attempt a where a.id = job.subject_id and a.started_at is not null));

-- What waits, by whom it is for: who waits is read off its beginning.
create index job_waiting on job (kind, organization_id, account_id, worker_id, rank_at, id) where begun_at is null;

-- What runs: how many of whom, and what each worker has.
create index job_begun on job (kind, worker_id, organization_id, account_id, begun_at) where begun_at is not null;

-- Which workers jobs are left to.
create index job_by_worker on job (worker_id, id);

-- How many attempts at once. Null: as many as the installation gives everybody.
alter table budget add column attempts bigint;

-- What it does: all, api, worker.
alter table worker add column role text not null default 'all';

alter table worker add column version text not null default '';

-- It has been stopped, and is expected to be back by then. Null: it was not stopped, or is back.
alter table worker add column returns_by bigint;
