-- Snapshots that are kept as artifacts, too, so that other workers need not build them.

-- What it was made of, and which machines can unpack it. Null where no other machine can use it.
alter table snapshot add column pack_key text;

-- The artifact, once it is there.
alter table snapshot add column packed_sha256 text;
alter table snapshot add column packed_bytes bigint;

create index snapshot_by_pack on snapshot (packed_sha256);
