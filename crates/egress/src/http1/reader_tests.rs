//! Tests of `reader`.

use super::*;

const WAIT: Duration = Duration::from_secs(5);

async fn whole(bytes: &'static [u8], framing: Framing) -> (Vec<u8>, Vec<u8>) {
    let mut reader = Reader::new(bytes, BytesMut::new());
    let mut state = BodyState::new(framing);
    let mut body = Vec::new();
    while let Some(piece) = reader.body(&mut state, WAIT).await.expect("a piece") {
        body.extend_from_slice(&piece);
    }
    let rest = reader.into_parts().1.to_vec();
    (body, rest)
}

#[tokio::test]
async fn a_body_ends_where_it_says_and_the_next_request_begins_there() {
    let chunks = b"5\r\nhello\r\n00b\r\n, brave new\r\n6\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\nGET /";

    assert_eq!(whole(b"hello worldGET /", Framing::Length(11)).await, (b"hello world".to_vec(), b"GET /".to_vec()));
    assert_eq!(whole(chunks, Framing::Chunked).await, (b"hello, brave new world".to_vec(), b"GET /".to_vec()));
    assert_eq!(whole(b"GET /", Framing::Empty).await, (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn a_body_that_ends_early_is_an_error() {
    for (bytes, framing) in
        [(&b"hel"[..], Framing::Length(5)), (b"5\r\nhel", Framing::Chunked), (b"0\r\n", Framing::Chunked)]
    {
        let mut reader = Reader::new(bytes, BytesMut::new());
        let mut state = BodyState::new(framing);
        let error = loop {
            match reader.body(&mut state, WAIT).await {
                Ok(piece) => assert!(piece.is_some(), "{bytes:?} has no end"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, ReadError::Gone(_)), "{error:?}");
    }
}
