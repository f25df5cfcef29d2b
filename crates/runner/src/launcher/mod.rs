//! The parked launcher: one thread, one stream from its controller, no state but what all sandboxes share.
//!
//! It is started with an empty environment, prepares the shared base once, and then makes a sandbox for each request:
//! it clones itself into new namespaces, and the child *becomes* process 1 without an exec, so nothing of ours has to
//! exist inside. It ends when its controller closes the stream; sandboxes go on without it.

mod base;
mod binds;
mod cgroup;
mod child;
mod facts;
mod folder;
mod inside;
mod memory;
mod overlay;
mod paths;
mod stack;
mod stage;

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, setsid};

use crate::ids;
use crate::pidfd::start_time;
use crate::privileges::{INSIDE_ID, Inside};
use crate::protocol::{
    Decoder, Frame, FromLauncher, Launch, LimitsRecord, RECORD_FILE, Record, Resources, Root, ToLauncher,
    encode_control, message,
};
use crate::sys::privilege::wipe_environment;
use crate::sys::process::{Cloned, clone_into, clone_into_group, exit_now, ignore_ended_children};
use base::{Base, Power};
use cgroup::Group;
use child::{ASKS_FOR_IDS, GO_ON, IS_READY};

/// How long nothing is asked before the next child is made ready.
const PARK_AFTER_MS: u8 = 10;

/// How many children wait ready: one that was just made is still busy entering its control group, which takes longer than
/// all the rest.
const PARKED: usize = 4;

/// Serves the controller on standard input until it goes away.
pub fn main() -> ExitCode {
    wipe_environment();
    // Its own session: a Ctrl-C at the controller's terminal is the controller's business.
    let _already_leader = setsid();
    ignore_ended_children();
    let stream = match io::stdin().as_fd().try_clone_to_owned() {
        Ok(fd) => UnixStream::from(fd),
        Err(_) => return ExitCode::FAILURE,
    };
    match serve(stream) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_controller_gone) => ExitCode::FAILURE,
    }
}

fn serve(mut stream: UnixStream) -> io::Result<()> {
    let mut decoder = Decoder::default();
    let Some(ToLauncher::Setup(setup)) = next_request(&mut stream, &mut decoder)? else {
        return Ok(());
    };
    let base = match Base::prepare(&setup).and_then(try_out) {
        Ok(base) => base,
        Err(reason) => return answer(&mut stream, &FromLauncher::Unable { reason }),
    };
    let lent_ids = match &base.power {
        Power::Lent(map) => Some(map.clone()),
        Power::Host(_) | Power::Own(_) => None,
    };
    answer(&mut stream, &FromLauncher::Ready { facts: facts::gather(&base), lent_ids })?;

    let (mut parked, mut is_wanted) = (VecDeque::new(), true);
    let mut children: Vec<Child> = Vec::new();
    loop {
        // Some children wait ready for the next launches. They are made in quiet moments, not beside a sandbox's first
        // command, and the oldest is taken first.
        let is_due = is_wanted && children.is_empty();
        let quiet = if is_due { PollTimeout::from(PARK_AFTER_MS) } else { PollTimeout::NONE };
        let ready = wait(&stream, &children, quiet)?;
        if is_due && !ready[0] {
            base.groups.sweep();
            // If it cannot be made now, the next launch tries again and says why.
            let made = Parked::start(&base);
            is_wanted = made.is_ok() && parked.len() + 1 < PARKED;
            parked.extend(made.ok());
            continue;
        }
        for index in (0..children.len()).rev() {
            if ready[index + 1]
                && let Some(reply) = children[index].advance(&base)
            {
                let child = children.swap_remove(index);
                if let FromLauncher::Failed { .. } = reply {
                    base.groups.discard(child.group);
                }
                answer(&mut stream, &reply)?;
            }
        }
        if !ready[0] {
            continue;
        }
        // A controller that ended in the middle of a word has ended as well.
        if !fill(&mut stream, &mut decoder).unwrap_or(false) {
            parked.into_iter().for_each(|child: Parked| child.end(&base));
            base.groups.sweep();
            return Ok(());
        }
        while let Some(request) = take_request(&mut decoder)? {
            let ToLauncher::Launch(launch) = request else { return Ok(()) };
            is_wanted = true;
            match Child::start(&base, &launch, parked.pop_front()) {
                Ok(child) => children.push(child),
                Err(reason) => answer(&mut stream, &FromLauncher::Failed { number: launch.number, reason })?,
            }
        }
    }
}

/// Waits until the controller or a child has something to say; tells for each, the controller first.
fn wait(stream: &UnixStream, children: &[Child], timeout: PollTimeout) -> io::Result<Vec<bool>> {
    let fds = std::iter::once(stream).chain(children.iter().map(|child| &child.handshake));
    let mut fds: Vec<PollFd> = fds.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(fds.iter().map(|fd| fd.any().unwrap_or(false)).collect()),
        Err(error) => Err(error.into()),
    }
}

fn next_request(stream: &mut UnixStream, decoder: &mut Decoder) -> io::Result<Option<ToLauncher>> {
    loop {
        if let Some(request) = take_request(decoder)? {
            return Ok(Some(request));
        }
        if !fill(stream, decoder)? {
            return Ok(None);
        }
    }
}

fn fill(stream: &mut UnixStream, decoder: &mut Decoder) -> io::Result<bool> {
    let mut buffer = [0; 16 << 10];
    let bytes = stream.read(&mut buffer)?;
    decoder.push(&buffer[..bytes]);
    Ok(bytes > 0)
}

fn take_request(decoder: &mut Decoder) -> io::Result<Option<ToLauncher>> {
    match decoder.next_frame().map_err(io::Error::other)? {
        Some(Frame::Control(payload)) => message(payload).map(Some).map_err(io::Error::other),
        Some(Frame::Data(..) | Frame::Tunnel(..)) => Err(io::Error::other("a launcher takes no data")),
        None => Ok(None),
    }
}

fn answer(stream: &mut UnixStream, reply: &FromLauncher) -> io::Result<()> {
    let mut frame = Vec::new();
    encode_control(&mut frame, reply).map_err(io::Error::other)?;
    stream.write_all(&frame)
}

/// Makes a sandbox, and if that fails one without control groups: better to hold less than to make none.
fn try_out(mut base: Base) -> Result<Base, String> {
    let Err(reason) = probe(&base) else { return Ok(base) };
    if base.groups.is_empty() {
        return Err(reason);
    }
    base.groups.abandon(&reason);
    probe(&base).map(|()| base)
}

/// Makes a sandbox that ends as soon as it stands, so that what this kernel forbids is known at the start.
fn probe(base: &Base) -> Result<(), String> {
    let name = format!(".probe-{}", std::process::id());
    let folder = base.folder.join(&name);
    fs::create_dir(&folder).map_err(|error| format!("cannot make `{}`: {error}", folder.display()))?;
    let launch = Launch {
        number: 0,
        name,
        mounts: Vec::new(),
        environment: Vec::new(),
        hostname: "carrel".to_owned(),
        root: Root::Host,
        layers: Vec::new(),
        resources: Resources { processes: 16, ..Resources::default() },
    };
    let result = Child::start(base, &launch, None).and_then(|mut child| {
        let answer = loop {
            if let Some(answer) = child.advance(base) {
                break answer;
            }
        };
        base.groups.discard(child.group);
        match answer {
            FromLauncher::Failed { reason, .. } => Err(reason),
            _ => kill(child.pid, Signal::SIGKILL).map_err(|error| error.to_string()),
        }
    });
    // What is left of it is swept when the controller opens the folder next.
    let _swept_later = fs::remove_dir_all(&folder);
    result
}

/// A child with its namespaces, waiting for its sandbox. It ends when this is dropped.
struct Parked {
    pid: Pid,
    handshake: UnixStream,
    group: Group,
}

impl Parked {
    fn start(base: &Base) -> Result<Self, String> {
        let (ours, theirs) = UnixStream::pair().map_err(|error| format!("cannot make a socket pair: {error}"))?;
        let group = base.groups.next();
        let cradle = base.groups.cradle(&group);
        let (cloned, is_born_there) = match cradle.map(|cradle| clone_into_group(base.namespaces(), cradle.as_fd())) {
            Some(Ok(cloned)) => (Ok(cloned), true),
            // Whatever stands in its way, the older call has the last word, and the better known errors.
            Some(Err(_)) | None => (clone_into(base.namespaces()), false),
        };
        match cloned {
            Ok(Cloned::Parent(pid)) => Ok(Self { pid, handshake: ours, group }),
            Ok(Cloned::Child) => exit_now(child::become_runner(base, &group, is_born_there, theirs)),
            Err(error) => {
                base.groups.discard(group);
                Err(explain_clone(base, error))
            }
        }
    }

    /// Ends it, with its group. It has done nothing yet that takes long to undo.
    fn end(self, base: &Base) {
        if kill(self.pid, Signal::SIGKILL).is_ok() {
            // Nobody keeps ended children here, so this waits for its end, and finds nothing.
            let _none_is_kept = waitpid(self.pid, None);
        }
        base.groups.discard(self.group);
    }
}

/// A sandbox on its way: from the clone until its runner listens.
struct Child {
    number: u32,
    pid: Pid,
    handshake: UnixStream,
    group: Group,
    disk_bytes: Option<u64>,
    inside: Inside,
    record: std::path::PathBuf,
}

impl Child {
    fn start(base: &Base, launch: &Launch, parked: Option<Parked>) -> Result<Self, String> {
        paths::check(launch)?;
        let Parked { pid, mut handshake, group } = parked.map_or_else(|| Parked::start(base), Ok)?;
        let mut frame = Vec::new();
        encode_control(&mut frame, launch).map_err(|error| error.to_string())?;
        // If it failed before it could read this, its reason waits to be read.
        let _told_by_its_answer = handshake.write_all(&frame);
        let record = base.folder.join(&launch.name).join(RECORD_FILE);
        Ok(Self {
            number: launch.number,
            pid,
            handshake,
            group,
            disk_bytes: launch.resources.disk_bytes,
            inside: Inside::of(&launch.root),
            record,
        })
    }

    /// Takes the child's next word; the answer for the controller when that was its last.
    fn advance(&mut self, base: &Base) -> Option<FromLauncher> {
        let mut words = [0; 4096];
        let count = match self.handshake.read(&mut words) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return None,
            result => result.unwrap_or(0),
        };
        let failed = |reason: String| Some(FromLauncher::Failed { number: self.number, reason });
        match words[..count].split_first() {
            Some((&ASKS_FOR_IDS, _)) => match self.grant(base) {
                Ok(()) => None,
                Err(reason) => failed(reason),
            },
            Some((&IS_READY, _)) => Some(FromLauncher::Launched { number: self.number }),
            Some((_, reason)) => failed(String::from_utf8_lossy(reason).into_owned()),
            None => failed("it ended while it was made".to_owned()),
        }
    }

    /// Writes down which process it is, then lets it become the user inside. In this order, so that no runner
    /// lives that could not be found again; if this process dies in between, the child ends by itself.
    fn grant(&self, base: &Base) -> Result<(), String> {
        let started = start_time(self.pid.as_raw()).ok_or("it ended while it was made")?;
        let record = Written {
            runner: Record { pid: self.pid.as_raw(), started },
            limits: LimitsRecord { groups: self.group.folders(), disk_bytes: self.disk_bytes },
        };
        let text = serde_json::to_vec(&record).map_err(|error| error.to_string())?;
        // Whole or not at all: a disk may be full, and this process may be killed.
        let new = self.record.with_extension("new");
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &self.record));
        written.map_err(|error| format!("cannot write `{}`: {error}", self.record.display()))?;
        if let Some((users, groups)) = maps(&base.power, self.inside) {
            for (map, ids) in [("gid_map", groups), ("uid_map", users)] {
                let path = format!("/proc/{}/{map}", self.pid);
                fs::write(&path, ids).map_err(|error| format!("cannot write `{path}`: {error}"))?;
            }
        }
        (&self.handshake).write_all(&[GO_ON]).map_err(|error| format!("it ended while it was made: {error}"))
    }
}

/// The users and groups of a sandbox, as the kernel reads them, where they are the launcher's to give.
fn maps(power: &Power, inside: Inside) -> Option<(String, String)> {
    let both = |ids: String| (ids.clone(), ids);
    match (power, inside) {
        (Power::Own(_), _) => None,
        (Power::Host(first), Inside::User) => Some(both(format!("{INSIDE_ID} {first} 1"))),
        (Power::Lent(_), Inside::User) => Some(both(format!("{INSIDE_ID} 0 1"))),
        (Power::Host(first), Inside::Root) => Some(both(folder::ids_of_root(*first))),
        (Power::Lent(map), Inside::Root) => Some((map.users_below(), map.groups_below())),
    }
}

fn explain_clone(base: &Base, error: Errno) -> String {
    match error {
        Errno::EPERM | Errno::EACCES if matches!(base.power, Power::Host(_)) => {
            "this machine forbids new namespaces even to root: give the service CAP_SYS_ADMIN (a container needs to be \
             started with it), or run it as an ordinary user"
                .to_owned()
        }
        error => ids::explain(error),
    }
}

/// All of a sandbox's record.
#[derive(serde::Serialize)]
struct Written {
    #[serde(flatten)]
    runner: Record,
    #[serde(flatten)]
    limits: LimitsRecord,
}
