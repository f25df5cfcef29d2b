//! The web app is embedded. Where it has not been built, an empty folder stands in, and the service says so to browsers.

use std::fs;
use std::path::Path;

fn main() {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web/dist");
    if !dist.exists() {
        fs::create_dir_all(&dist).expect("web/dist can be made beside the sources");
    }
    println!("cargo::rerun-if-changed={}", dist.display());
}
