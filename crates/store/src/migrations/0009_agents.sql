-- The agent that works on an attempt inside its sandbox; null for our own.
alter table attempt add column agent text;
