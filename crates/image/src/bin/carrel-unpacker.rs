//! The unpacker as a program of its own, with the ids of whoever starts it, for tests; the one product binary reaches the
//! same code through a hidden argument.

use std::process::ExitCode;

fn main() -> ExitCode {
    carrel_image::unpack_for_another(Ok(()))
}
