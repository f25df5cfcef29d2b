//! The policy proxy: what a sandbox may reach is decided here, and enforced outside the sandbox.
