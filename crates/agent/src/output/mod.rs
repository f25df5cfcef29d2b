//! What commands print, on its way to two readers: people, who get clean text in bounded events ([`show`]), and the
//! model, which gets what it asked for within its budget ([`keep`]).

pub(crate) mod clean;
pub(crate) mod keep;
pub(crate) mod show;
