//! Git and its hosts: bare mirrors, commits from patches, pushes.
