//! Sets up, checks, tests and measures the project.
fn main() {}
