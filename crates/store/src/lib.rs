//! State at rest: rows, the event log, jobs under leases, and artifacts.
