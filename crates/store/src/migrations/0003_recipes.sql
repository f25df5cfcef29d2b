-- What the sandbox of an attempt is made of, settled once. Apart from the attempt's row, because it may hold scripts and
-- is read only by who makes sandboxes.

create table recipe (
    attempt_id uuid primary key references attempt (id),
    organization_id uuid not null references organization (id),
    body text not null
);
