-- Why a job rests until it is due, in words; said of what a task waits for.
alter table job add column rests_for text;
