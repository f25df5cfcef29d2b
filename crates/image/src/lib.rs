//! OCI images without Docker: pulled from a registry, verified, and unpacked into root file systems.
