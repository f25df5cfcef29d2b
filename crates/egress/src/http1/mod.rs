//! The server's side of HTTP/1, as a sandbox speaks it to the proxy and inside opened tunnels.
//!
//! It is ours and not a library's, because a library forgives: what it would quietly repair (two equal lengths, a length
//! beside chunks, bare line feeds) is refused here.

pub(crate) mod head;
pub(crate) mod reader;
pub(crate) mod writer;
