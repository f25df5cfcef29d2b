//! The unpacker's side: reads layers from its input and unpacks or removes with the ids that it has.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::{ExitCode, exit};
use std::thread;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Answer, CONTENT, END, Head, Job, LAYER, PIECE_BYTES, Trouble};
use crate::manifest::Descriptor;
use crate::unpack::{Layer, remove_tree, unpack};

/// The longest line.
const LINE_BYTES: u64 = 1 << 20;
/// Pieces that wait, as in the service.
const WAITING_PIECES: usize = 32;

/// The program of an [`super::Unpacker`], once it has its ids or knows why not: does what it is told on standard input,
/// answers on standard output.
pub fn unpack_for_another(has_ids: Result<(), String>) -> ExitCode {
    end_with_the_service();
    let mut input = BufReader::with_capacity(64 << 10, io::stdin());
    let answer = match has_ids.map(|()| read_job(&mut input)) {
        Ok(Ok(job)) => run(job, input),
        Ok(Err(error)) => Err((1, Trouble::Io(format!("it was told what it does not understand: {error}")))),
        Err(reason) => Err((1, Trouble::Io(format!("it cannot take on the ids: {reason}")))),
    };
    let text = serde_json::to_vec(&answer).map_err(io::Error::other);
    match text.and_then(|text| io::stdout().write_all(&text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// What is on its way may take long to put down; if nobody is there for the answer any more, that ends at once, so that the
/// next service can remove what is left.
fn end_with_the_service() {
    let output = io::stdout().as_fd().try_clone_to_owned();
    if let Ok(mut output) = output.map(UnixStream::from) {
        thread::spawn(move || {
            // Nothing ever comes that way but its end. By hand, where it is no stream, it fails at once.
            if let Ok(0) = output.read(&mut [0]) {
                exit(1);
            }
        });
    }
}

fn read_job(input: &mut BufReader<io::Stdin>) -> io::Result<Job> {
    let mut line = Vec::new();
    input.take(LINE_BYTES).read_until(b'\n', &mut line)?;
    serde_json::from_slice(&line).map_err(io::Error::other)
}

fn run(job: Job, input: BufReader<io::Stdin>) -> Answer {
    match job {
        Job::Unpack { root, owner, limits } => {
            let (feeds, mut fed) = mpsc::channel(1);
            thread::spawn(move || {
                let read = read_layers(input, &feeds);
                if read.is_err() {
                    // The service is gone, and nobody will give what is unpacked a name.
                    exit(1);
                }
            });
            let unpacked = unpack(&root, owner, limits, || fed.blocking_recv());
            unpacked.map(Some).map_err(|(layer, problem)| (layer, problem.into()))
        }
        Job::Remove { path } => remove_tree(&path).map(|()| None).map_err(|error| (1, Trouble::Io(error.to_string()))),
    }
}

/// Reads pieces until the last, each to the layer it belongs to.
fn read_layers(mut input: impl Read, feeds: &mpsc::Sender<Layer>) -> io::Result<()> {
    let mut layer: Option<mpsc::Sender<Bytes>> = None;
    loop {
        let (kind, content) = read_piece(&mut input)?;
        match (kind, &layer) {
            (LAYER, None) => {
                let (to, pieces) = mpsc::channel(WAITING_PIECES);
                layer = Some(to);
                // Whoever unpacks may have found enough wrong already.
                let _unwanted = feeds.blocking_send(read_head(&content, pieces)?);
            }
            (CONTENT, Some(to)) => {
                let _unwanted = to.blocking_send(content.into());
            }
            (END, Some(_)) => layer = None,
            (END, None) => return Ok(()),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "pieces of layers are out of order")),
        }
    }
}

fn read_head(content: &[u8], pieces: mpsc::Receiver<Bytes>) -> io::Result<Layer> {
    let Head { digest, size_bytes, diff_id } = serde_json::from_slice(content).map_err(io::Error::other)?;
    let [digest, diff_id] = [digest, diff_id].map(|text| text.parse().map_err(io::Error::other));
    Ok(Layer { descriptor: Descriptor { digest: digest?, size_bytes }, diff_id: diff_id?, pieces })
}

fn read_piece(input: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    input.read_exact(&mut head)?;
    let [kind, length @ ..] = head;
    let length = usize::try_from(u32::from_le_bytes(length)).map_err(io::Error::other)?;
    if length > PIECE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a piece is too long"));
    }
    let mut content = vec![0; length];
    input.read_exact(&mut content)?;
    Ok((kind, content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::unpacker::{piece, send};

    #[test]
    fn layers_come_over_in_their_order_and_one_that_broke_off_as_far_as_it_came() {
        let mut wire = Vec::new();
        let mut layers = [vec!["one", "two"], vec![], vec!["three"]].into_iter().map(|contents| {
            let (to, pieces) = mpsc::channel(2);
            for content in contents {
                to.try_send(Bytes::from_static(content.as_bytes())).expect("room");
            }
            let digest = Digest::of(b"x");
            Layer { descriptor: Descriptor { digest: digest.clone(), size_bytes: 6 }, diff_id: digest, pieces }
        });

        send(&mut wire, || layers.next()).expect("written");
        let (feeds, mut fed) = mpsc::channel(9);
        read_layers(wire.as_slice(), &feeds).expect("read");
        drop(feeds);

        let mut came = Vec::new();
        while let Some(mut layer) = fed.blocking_recv() {
            assert_eq!((layer.descriptor.size_bytes, &layer.diff_id), (6, &Digest::of(b"x")));
            let mut content = Vec::new();
            while let Some(bytes) = layer.pieces.blocking_recv() {
                content.extend_from_slice(&bytes);
            }
            came.push(content);
        }
        assert_eq!(came, [b"onetwo".to_vec(), Vec::new(), b"three".to_vec()]);
    }

    #[test]
    fn an_input_that_ends_early_or_is_out_of_order_is_an_error() {
        let (feeds, _fed) = mpsc::channel(9);
        let mut out_of_order = Vec::new();
        piece(&mut out_of_order, CONTENT, b"x").expect("written");

        assert!(read_layers(&b""[..], &feeds).is_err());
        assert!(read_layers(out_of_order.as_slice(), &feeds).is_err());
        assert!(read_layers(&[LAYER, 255, 255, 255, 255][..], &feeds).is_err());
    }
}
