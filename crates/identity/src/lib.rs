//! Who is asking: programs' tokens, browser sessions, the one-time owner link.
