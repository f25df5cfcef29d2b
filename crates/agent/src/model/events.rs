//! Server-sent events out of bytes, as the WHATWG's HTML standard has them (section 9.2), reduced to their data:
//! everything we need says in its data what it is. Bounded, whatever the server sends.

use std::collections::VecDeque;

use super::Failure;

/// The largest event that is taken.
pub(super) const MAX_EVENT_BYTES: usize = 16 << 20;

/// The longest answer that is read.
const MAX_STREAM_BYTES: usize = 64 << 20;

/// Turns chunks into the data of events.
#[derive(Debug, Default)]
pub(super) struct EventDecoder {
    /// The line that has not ended yet.
    line: Vec<u8>,
    /// The data lines of the event that has not ended yet.
    data: Vec<u8>,
    ready: VecDeque<Vec<u8>>,
    stream_bytes: usize,
    ends_in_return: bool,
}

impl EventDecoder {
    /// Takes the next bytes.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), Failure> {
        self.stream_bytes += chunk.len();
        if self.stream_bytes > MAX_STREAM_BYTES {
            return Err(Failure::cut(format!("it is longer than {MAX_STREAM_BYTES} bytes")));
        }
        let mut rest = chunk;
        // A line ends in LF, CR or CR LF, and the two may come in two chunks.
        if self.ends_in_return && rest.first() == Some(&b'\n') {
            rest = &rest[1..];
        }
        self.ends_in_return = chunk.last() == Some(&b'\r');
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.line.extend_from_slice(&rest[..end]);
            let length = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
            rest = &rest[end + length..];
            self.end_line();
        }
        self.line.extend_from_slice(rest);
        if self.line.len() + self.data.len() > MAX_EVENT_BYTES {
            return Err(Failure::cut(format!("it has an event larger than {MAX_EVENT_BYTES} bytes")));
        }
        Ok(())
    }

    /// The data of the next whole event.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        self.ready.pop_front()
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            if !self.data.is_empty() {
                self.ready.push_back(std::mem::take(&mut self.data));
            }
            return;
        }
        if let Some(data) = line.strip_prefix(b"data:") {
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(chunks: &[&[u8]]) -> Vec<String> {
        let mut decoder = EventDecoder::default();
        for chunk in chunks {
            decoder.push(chunk).expect("within the limits");
        }
        std::iter::from_fn(|| decoder.next()).map(|data| String::from_utf8_lossy(&data).into_owned()).collect()
    }

    #[test]
    fn only_data_counts_and_lines_end_in_every_way() {
        let stream =
            b": hello\nevent: x\ndata: one\n\ndata:two\r\ndata: three\r\nid: 7\r\n\r\n\r\nretry: 1\rdata: four\r\r";

        assert_eq!(decode(&[stream]), ["one", "two\nthree", "four"]);
    }

    #[test]
    fn chunks_may_be_cut_anywhere() {
        let stream = "data: grün\r\n\r\ndata: b\n\n".as_bytes();
        for cut in 0..=stream.len() {
            assert_eq!(decode(&[&stream[..cut], &stream[cut..]]), ["grün", "b"], "cut at {cut}");
        }
    }

    #[test]
    fn an_event_that_does_not_end_is_not_collected_for_ever() {
        let mut decoder = EventDecoder::default();
        let chunk = vec![b'x'; 1 << 20];

        assert!((0..20).any(|_| decoder.push(&chunk).is_err()));
        assert!(decoder.line.len() <= MAX_EVENT_BYTES + chunk.len());
    }
}
