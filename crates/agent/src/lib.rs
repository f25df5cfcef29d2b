//! The loop: asks the model, runs its tools in a sandbox, records every step.
