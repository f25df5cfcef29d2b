//! The spine: submits tasks, drives attempts through their stages, publishes patches.
