//! What goes wrong with an answer, and where.

use std::fmt;

/// What is done to one answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Damage {
    /// The connection is closed there, in an orderly way.
    Cut(Place),
    /// The connection is reset there.
    Reset(Place),
    /// Nothing comes from there on.
    Stall(Place),
    /// Bytes that mean nothing stand there.
    Garbage(Place),
    /// Every event comes twice.
    Twice,
    /// Two neighbouring events in the middle change places.
    Swapped,
    /// Another status, with an error in the wire's form or with none.
    Status(u16, &'static str),
    /// The answer is under another type.
    Type(&'static str),
    /// One event of this size in front of the others, in bytes.
    Huge(usize),
    /// Events that mean nothing, for ever.
    Endless,
    /// It says that it is compressed, and is not.
    Gzip,
    /// A status of its own before the real one.
    EarlyHints,
    /// A chunk says that it is longer than it is.
    FalseChunk,
    /// A length that is too long, or too short, instead of chunks.
    FalseLength(i64),
    /// Line ends of the other kind, comments and blank lines everywhere.
    OtherLineEnds,
    /// One byte at a time.
    Trickled,
}

/// A class of bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Place {
    BeforeStatus,
    InStatus,
    InHeaders,
    AfterHeaders,
    InFieldName,
    InData,
    InCharacter,
    InLineEnd,
    BetweenEvents,
    BeforeLastEvent,
    InLastEvent,
    AfterLastEvent,
}

const PLACES: [Place; 12] = [
    Place::BeforeStatus,
    Place::InStatus,
    Place::InHeaders,
    Place::AfterHeaders,
    Place::InFieldName,
    Place::InData,
    Place::InCharacter,
    Place::InLineEnd,
    Place::BetweenEvents,
    Place::BeforeLastEvent,
    Place::InLastEvent,
    Place::AfterLastEvent,
];

const STATUSES: [u16; 21] =
    [201, 204, 301, 302, 400, 401, 402, 403, 404, 408, 409, 413, 418, 422, 425, 429, 500, 502, 503, 504, 529];

/// Everything that is tried.
pub(super) fn all() -> Vec<Damage> {
    let mut all = Vec::new();
    for place in PLACES {
        all.extend([Damage::Cut(place), Damage::Reset(place), Damage::Stall(place), Damage::Garbage(place)]);
    }
    for status in STATUSES {
        all.push(Damage::Status(status, r#"{"error":{"message":"So it is.","type":"t","code":null}}"#));
    }
    all.extend([Damage::Status(200, ""), Damage::Status(500, ""), Damage::Status(503, "<html>Sorry</html>")]);
    all.extend([Damage::Type("text/html"), Damage::Type("application/octet-stream"), Damage::Type("")]);
    all.extend([Damage::Huge(1 << 20), Damage::Huge(64 << 20), Damage::FalseLength(50), Damage::FalseLength(-50)]);
    all.extend([Damage::Twice, Damage::Swapped, Damage::Endless, Damage::Gzip, Damage::EarlyHints, Damage::FalseChunk]);
    all.extend([Damage::OtherLineEnds, Damage::Trickled]);
    all
}

impl Damage {
    /// Whether an answer may come whole and yet not be what the model said.
    pub(super) const fn may_garble(&self) -> bool {
        matches!(self, Self::Twice | Self::Swapped)
    }

    /// Whether whoever asks again, or does not mind, comes to the same end as if nothing had happened.
    pub(super) fn must_recover(&self) -> bool {
        match self {
            // Where the break is only seen by what does not follow, all may have been said.
            Self::Cut(_) | Self::Reset(_) | Self::Stall(_) => true,
            Self::Status(status, _) => matches!(status, 408 | 409 | 425 | 429 | 500.. | 200),
            Self::EarlyHints | Self::FalseChunk | Self::FalseLength(_) | Self::OtherLineEnds | Self::Trickled => true,
            Self::Garbage(_) | Self::Huge(_) | Self::Endless => true,
            Self::Twice | Self::Swapped | Self::Type(_) | Self::Gzip => false,
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status, "") => write!(formatter, "status {status} without a body"),
            Self::Status(status, body) if body.starts_with('<') => write!(formatter, "status {status} with a page"),
            Self::Status(status, _) => write!(formatter, "status {status}"),
            other => write!(formatter, "{other:?}"),
        }
    }
}

impl Place {
    /// Where it is in an answer whose head is so long and whose body is a stream of events.
    pub(super) fn find(self, head: usize, body: &[u8]) -> usize {
        let first = |needle: &[u8]| body.windows(needle.len()).position(|window| window == needle);
        let ends: Vec<usize> =
            body.windows(2).enumerate().filter(|(_, two)| *two == b"\n\n").map(|(at, _)| at).collect();
        let end = |number: usize| ends.get(number).map_or(body.len() / 2, |at| at + 2);
        // `[DONE]` is no event of the answer: the one before it is the last.
        let events = ends.len() - usize::from(body.ends_with(b"data: [DONE]\n\n"));
        let last = end(events.saturating_sub(2));
        head + match self {
            Self::BeforeStatus => return 0,
            Self::InStatus => return 6,
            Self::InHeaders => return head - 12,
            Self::AfterHeaders => 0,
            Self::InFieldName => end(0) + 2,
            Self::InData => first(b"data: ").unwrap_or_default() + 12,
            Self::InCharacter => body.iter().position(|byte| *byte >= 0xC0).map_or(body.len() / 2, |at| at + 1),
            Self::InLineEnd => end(0) - 1,
            Self::BetweenEvents => end(0),
            Self::BeforeLastEvent => last,
            Self::InLastEvent => last + 20,
            Self::AfterLastEvent => body.len(),
        }
    }
}
