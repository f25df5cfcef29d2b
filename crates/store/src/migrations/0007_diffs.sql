-- Diffs as input: what tasks start from, and those that prompts name or hold.

-- The attachment that is a patch of local changes, and what is in it: JSON. Null: the task starts from a commit as it is.
alter table task add column local_changes text;

-- A diff that a turn's prompt names or holds, once it was had, or could not be.
create table prompt_diff (
    turn_id uuid not null references turn (id),
    -- Counted from 0, in the order of the prompt.
    position bigint not null,
    organization_id uuid not null references organization (id),
    -- Its address, or `the prompt`.
    source text not null,
    -- Its bytes, among the turn's attachments; null when it could not be had.
    attachment_id uuid references attachment (id),
    -- Why it could not be had.
    problem text,
    primary key (turn_id, position)
);
