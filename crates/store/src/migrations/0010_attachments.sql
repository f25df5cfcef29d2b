-- When a turn took an attachment; null while none has. Those are counted and collected without a look at all others.
alter table attachment add column taken_at bigint;

update attachment set taken_at = created_at
where exists (select 1 from turn_attachment p where p.attachment_id = attachment.id);

create index attachment_by_waiting on attachment (created_at) where taken_at is null;

create index attachment_by_person on attachment (created_by) where taken_at is null;
