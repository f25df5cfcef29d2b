//! What an image file says of itself in its first bytes. Its name says nothing, and nothing is decoded.

/// What kind of image it is, and how large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Its media type.
    pub(crate) media_type: &'static str,
    /// Pixels.
    pub(crate) width: u32,
    /// Pixels.
    pub(crate) height: u32,
}

/// The header, if it is one of an image with at least one pixel.
pub(crate) fn read(bytes: &[u8]) -> Option<Header> {
    let (media_type, (width, height)) = if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        ("image/png", png(bytes)?)
    } else if bytes.starts_with(b"\xff\xd8\xff") {
        ("image/jpeg", jpeg(bytes)?)
    } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        ("image/gif", (little(bytes, 6, 2)?, little(bytes, 8, 2)?))
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        ("image/webp", webp(bytes)?)
    } else {
        return None;
    };
    (width > 0 && height > 0).then_some(Header { media_type, width, height })
}

/// W3C, PNG: the first chunk is `IHDR`, which begins with width and height.
fn png(bytes: &[u8]) -> Option<(u32, u32)> {
    (bytes.get(12..16)? == b"IHDR").then_some(())?;
    Some((big(bytes, 16, 4)?, big(bytes, 20, 4)?))
}

/// ITU T.81: segments up to the frame header, SOF0 to SOF15 without DHT, JPG and DAC.
fn jpeg(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut at = 2;
    loop {
        (*bytes.get(at)? == 0xff).then_some(())?;
        match *bytes.get(at + 1)? {
            // Any number of bytes of 0xff may come before a marker.
            0xff => at += 1,
            // Markers without a segment.
            0x01 | 0xd0..=0xd8 => at += 2,
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                return Some((big(bytes, at + 7, 2)?, big(bytes, at + 5, 2)?));
            }
            // The image's data, or its end, before any frame.
            0xd9 | 0xda => return None,
            _ => at += 2 + usize::try_from(big(bytes, at + 2, 2)?).ok().filter(|length| *length >= 2)?,
        }
    }
}

/// RFC 9649: `VP8 ` (RFC 6386, 9.1), `VP8L` or `VP8X`.
fn webp(bytes: &[u8]) -> Option<(u32, u32)> {
    match bytes.get(12..16)? {
        b"VP8 " => {
            (bytes.get(23..26)? == b"\x9d\x01\x2a").then_some(())?;
            Some((little(bytes, 26, 2)? & 0x3fff, little(bytes, 28, 2)? & 0x3fff))
        }
        b"VP8L" => {
            (*bytes.get(20)? == 0x2f).then_some(())?;
            let bits = little(bytes, 21, 4)?;
            Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        b"VP8X" => Some((little(bytes, 24, 3)? + 1, little(bytes, 27, 3)? + 1)),
        _ => None,
    }
}

fn big(bytes: &[u8], at: usize, length: usize) -> Option<u32> {
    Some(bytes.get(at..at + length)?.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

fn little(bytes: &[u8], at: usize, length: usize) -> Option<u32> {
    Some(bytes.get(at..at + length)?.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png_of(width: u32, height: u32) -> Vec<u8> {
        [&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], &width.to_be_bytes(), &height.to_be_bytes(), &[8, 6, 0, 0, 0]].concat()
    }

    #[test]
    fn kind_and_size_are_read_from_the_bytes() {
        let jpeg = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xff\xc4\x00\x03x\xff\xc2\x00\x11\x08\x01\x02\x03\x04";
        let lossy = b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\x10\0\0\x9d\x01\x2a\x40\x01\xf0\x40";
        // 640 x 480: 14 bits of width - 1, then 14 of height - 1.
        let lossless = [&b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f"[..], &(639u32 | 479 << 14).to_le_bytes()].concat();
        let extended = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\x7f\x02\0\xdf\x01\0";
        for (bytes, media_type, width, height) in [
            (png_of(1, 70_000).as_slice(), "image/png", 1, 70_000),
            (jpeg, "image/jpeg", 0x304, 0x102),
            (b"GIF89a\x02\x01\x03\x00", "image/gif", 0x102, 3),
            (lossy, "image/webp", 320, 240),
            (&lossless, "image/webp", 640, 480),
            (extended, "image/webp", 640, 480),
        ] {
            assert_eq!(read(bytes), Some(Header { media_type, width, height }), "{media_type}");
        }
    }

    #[test]
    fn what_is_cut_off_or_empty_or_something_else_is_no_image() {
        let png = png_of(1, 1);
        assert!((0..24).all(|length| read(&png[..length]).is_none()));
        assert_eq!(read(&png_of(0, 1)), None);
        for bytes in [
            &b"<svg xmlns='http://www.w3.org/2000/svg'/>"[..],
            b"",
            b"BM\0\0",
            b"\xff\xd8\xff\xda",
            b"\xff\xd8\xff\xe0\0\0",
        ] {
            assert_eq!(read(bytes), None, "{bytes:?}");
        }
    }
}
