//! Artifacts of many processes: in a folder that they share, and in a bucket of a real S3 server.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use carrel_domain::task::Attempts;
use carrel_domain::{
    Attachment, Attempt, AttemptLimits, Clock, Mode, NewTask, NewTurn, Prompt, Redactor, Revision, Secret, SnapshotId,
    WorkerId,
};
use carrel_store::{
    Artifact, ArtifactPlace, NewSnapshot, Principal, SealingKeys, Snapshot, StatePlace, Store, StoreError,
    StoreOptions, TransferError, export, import,
};
use carrel_testkit::{Postgres, S3, SigningS3, wait_for};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000).expect("a time")
    }
}

/// One database and one place of artifacts, for any number of processes.
struct Installation {
    postgres: Postgres,
    keys: Secret,
}

/// A process: a store with a data folder of its own.
struct Process {
    folder: tempfile::TempDir,
    store: Store,
    owner: Principal,
}

impl Installation {
    fn new() -> Self {
        Self { postgres: Postgres::start(), keys: SealingKeys::fresh().expect("chance") }
    }

    async fn process(&self, artifacts: ArtifactPlace) -> Process {
        let folder = tempfile::tempdir().expect("a folder");
        let options = StoreOptions {
            folder: folder.path().to_owned(),
            postgres: Some(Secret::new(self.postgres.url())),
            artifacts,
            worker: WorkerId::from_uuid(uuid::Uuid::now_v7()),
            clock: Arc::new(Noon),
            redactor: Redactor::default(),
            keys: SealingKeys::parse(&self.keys).expect("keys"),
        };
        let (store, _) = Store::open(options).await.expect("a store");
        let owner = store.ensure_owner().await.expect("an owner").principal;
        Process { folder, store, owner }
    }
}

impl Process {
    async fn give(&self, bytes: &[u8]) -> Result<Attachment, StoreError> {
        self.store.add_attachment(self.owner.organization, self.owner.user, ("a", None), bytes.to_vec()).await
    }

    /// The bytes of an attachment that some process was given.
    async fn read(&self, attachment: &Attachment) -> Result<Vec<u8>, StoreError> {
        let (_, artifact) = self.store.attachment_file(self.owner.organization, attachment.id).await?;
        self.store.artifact_bytes(&artifact).await
    }

    async fn sha256(&self, attachment: &Attachment) -> String {
        let found = self.store.attachment_file(self.owner.organization, attachment.id).await.expect("a row");
        found.1.sha256
    }

    async fn attempt(&self) -> Attempt {
        let new = NewTask {
            organization: self.owner.organization,
            created_by: self.owner.user,
            repository: "/srv/code/api".parse().expect("a path"),
            revision: Revision::DefaultBranch,
            environment: None,
            local_changes: None,
            priority: carrel_domain::Priority::Normal,
            turn: NewTurn {
                prompt: Prompt::parse("Look").expect("a prompt"),
                mode: Mode::Code,
                attempts: Attempts::ONE,
                attachments: Vec::new(),
                from_attempt: None,
                model: None,
                effort: None,
                agent: None,
                limits: AttemptLimits::NONE,
            },
        };
        let task = self.store.create_task(&new, "gpt-test").await.expect("a task");
        self.store.task(self.owner.organization, task).await.expect("the task").turns[0].attempts[0].clone()
    }

    /// Everything that lies in the data folder under a name of its own, and beside.
    fn copies(&self) -> Vec<String> {
        names(&self.folder.path().join("artifacts"))
    }
}

fn names(folder: &Path) -> Vec<String> {
    let shelves = std::fs::read_dir(folder).expect("a folder").flatten().filter(|shelf| shelf.path().is_dir());
    let files = shelves.flat_map(|shelf| std::fs::read_dir(shelf.path()).expect("a shelf").flatten());
    let mut names: Vec<String> = files.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn bucket(s3: &S3) -> ArtifactPlace {
    place(&s3.place(), s3.variables())
}

fn place(url: &str, variables: Vec<(String, String)>) -> ArtifactPlace {
    let variables = variables.into_iter().map(|(name, value)| (name, Secret::new(value)));
    ArtifactPlace::parse(url, variables.collect()).expect("a place")
}

/// Bytes that no two calls share.
fn long(megabytes: usize) -> Vec<u8> {
    let seed = uuid::Uuid::now_v7().into_bytes();
    seed.iter().copied().cycle().take(megabytes << 20).collect()
}

#[tokio::test]
async fn what_one_process_keeps_another_reads_from_a_folder_they_share() {
    let (installation, shared) = (Installation::new(), tempfile::tempdir().expect("a folder"));
    let place = ArtifactPlace::Folder(shared.path().join("artifacts"));
    let (one, other) = (installation.process(place.clone()).await, installation.process(place).await);

    let given = one.give(b"shared").await.expect("kept");
    let again = other.give(b"shared").await.expect("kept");

    assert_eq!(other.read(&given).await.expect("bytes"), b"shared");
    assert_eq!(names(&shared.path().join("artifacts")), [one.sha256(&again).await], "the same bytes are there once");
}

#[tokio::test]
async fn what_one_process_keeps_another_reads_from_a_bucket_and_keeps_a_copy_of() {
    let (installation, mut s3) = (Installation::new(), S3::start());
    let (one, other) = (installation.process(bucket(&s3)).await, installation.process(bucket(&s3)).await);
    let (short, long) = (b"shared".to_vec(), long(20));

    let given = [one.give(&short).await.expect("kept"), one.give(&long).await.expect("kept in parts")];
    let before = other.copies();
    let read = [other.read(&given[0]).await.expect("bytes"), other.read(&given[1]).await.expect("bytes")];
    s3.crash();
    let from_the_copy = other.read(&given[1]).await.expect("the bucket is not asked");

    assert!(before.is_empty());
    assert_eq!((read[0] == short, read[1] == long, from_the_copy == long), (true, true, true));
    let mut copies = [one.sha256(&given[0]).await, one.sha256(&given[1]).await];
    copies.sort();
    assert_eq!(other.copies(), copies);
}

#[tokio::test]
async fn a_bucket_that_does_not_answer_is_named_and_once_it_does_everything_works_again() {
    let (installation, mut s3) = (Installation::new(), S3::start());
    let (one, other) = (installation.process(bucket(&s3)).await, installation.process(bucket(&s3)).await);
    let given = one.give(b"kept").await.expect("kept");
    s3.crash();

    let refused = one.give(b"more").await.expect_err("nobody answers");
    let unread = other.read(&given).await.expect_err("nobody answers");
    s3.up();

    for error in [&refused, &unread] {
        let text = error.to_string();
        assert!(text.starts_with("the artifact store s3://acme-artifacts/carrel does not answer: "), "{text}");
    }
    assert!(other.copies().is_empty());
    assert_eq!(other.read(&given).await.expect("bytes"), b"kept");
    one.give(b"more").await.expect("kept");
}

#[tokio::test]
async fn a_bucket_that_dies_while_it_is_written_to_shows_nothing_that_is_half_there() {
    let (installation, mut s3) = (Installation::new(), S3::start());
    let process = installation.process(bucket(&s3)).await;
    let (attempt, bytes) = (process.attempt().await, long(40));
    let before = s3.files().len();

    let (store, of, kept) = (process.store.clone(), attempt.clone(), bytes.clone());
    let writing = tokio::spawn(async move { store.keep_artifact(&of, "patch", kept).await });
    let s3 = tokio::task::spawn_blocking(move || {
        wait_for(Duration::from_secs(60), "a part", || s3.files().len() > before + 2);
        s3.crash();
        s3.up();
        s3.crash();
        s3
    });
    let mut s3 = s3.await.expect("it was killed");
    let died = writing.await.expect("no panic");
    s3.up();

    let died = died.expect_err("nobody was there for the rest").to_string();
    assert!(died.starts_with("the artifact store s3://acme-artifacts/carrel "), "{died}");
    let row = process.store.artifact(process.owner.organization, attempt.id, "patch").await;
    assert!(matches!(row, Err(StoreError::NotFound { .. })), "{row:?}");
    let again = process.store.keep_artifact(&attempt, "patch", bytes.clone()).await.expect("kept");
    let other = installation.process(bucket(&s3)).await;
    assert!(other.store.artifact_bytes(&again).await.expect("bytes") == bytes);
}

#[tokio::test]
async fn a_server_that_checks_signatures_takes_the_key_and_no_other() {
    let (installation, s3) = (Installation::new(), SigningS3::start());
    let right = installation.process(place(&s3.place(), s3.variables())).await;
    let (short, long) = (b"signed".to_vec(), long(10));
    let mut variables = s3.variables();
    variables[3].1 = "hunter2/hunter2".to_owned();
    let wrong = installation.process(place(&s3.place(), variables)).await;

    let given = [right.give(&short).await.expect("kept"), right.give(&long).await.expect("kept in parts")];
    let refused = [wrong.give(b"more").await.err(), wrong.read(&given[0]).await.err()];

    let other = installation.process(place(&s3.place(), s3.variables())).await;
    assert_eq!(other.read(&given[0]).await.expect("bytes"), short);
    assert!(other.read(&given[1]).await.expect("bytes") == long);
    for error in refused {
        let text = error.expect("the secret is wrong").to_string();
        assert!(text.starts_with("the artifact store s3://acme-artifacts/carrel refuses: "), "{text}");
        assert!(text.contains("look at AWS_ACCESS_KEY_ID") && !text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn bytes_that_were_changed_behind_our_back_are_not_delivered() {
    let (installation, s3) = (Installation::new(), S3::start());
    let (one, other) = (installation.process(bucket(&s3)).await, installation.process(bucket(&s3)).await);
    let mut given = Vec::new();
    for bytes in [&b"as long"[..], b"longer", b"gone"] {
        given.push(one.give(bytes).await.expect("kept"));
    }
    let names = [one.sha256(&given[0]).await, one.sha256(&given[1]).await, one.sha256(&given[2]).await];
    std::fs::write(s3.file(&names[0]), b"AS LONG").expect("changed");
    std::fs::write(s3.file(&names[1]), b"longer than it was").expect("changed");
    std::fs::remove_file(s3.file(&names[2])).expect("removed");
    let copy = one.folder.path().join("artifacts").join(&names[0][..2]).join(&names[0]);
    std::fs::write(copy, b"as LONG").expect("changed");

    for one_of_them in &given {
        let lost = other.read(one_of_them).await;
        assert!(matches!(lost, Err(StoreError::ArtifactLost { .. })), "{lost:?}");
    }
    let copied = one.read(&given[0]).await;
    assert!(matches!(copied, Err(StoreError::ArtifactLost { .. })), "a copy is checked, too: {copied:?}");
    assert!(other.copies().is_empty(), "nothing of it is kept");
}

#[tokio::test]
async fn what_nobody_names_is_collected_once_it_is_old_and_nothing_else() {
    let (installation, s3) = (Installation::new(), S3::start());
    let process = installation.process(bucket(&s3)).await;
    let attempt = process.attempt().await;
    let mut kept = Vec::new();
    for bytes in [&b"first"[..], b"second", b"third"] {
        kept.push(process.store.keep_artifact(&attempt, "patch", bytes.to_vec()).await.expect("kept"));
    }
    s3.age(&kept[0].sha256);
    s3.age(&kept[2].sha256);

    let collected = process.store.collect_all_artifacts().await.expect("collected");

    let there: Vec<bool> = kept.iter().map(|artifact| s3.file(&artifact.sha256).exists()).collect();
    assert_eq!((collected, there), (1, vec![false, true, true]), "the second is young, the third is the patch");
    assert_eq!(process.store.artifact_bytes(&kept[2]).await.expect("bytes"), b"third");
}

impl Process {
    async fn snapshot(&self) -> Snapshot {
        let attempt = self.attempt().await;
        let thread = self.store.task(attempt.organization, attempt.task).await.expect("the task");
        let id = SnapshotId::from_uuid(uuid::Uuid::now_v7());
        let new = NewSnapshot {
            id,
            organization: attempt.organization,
            environment: attempt.environment,
            repository: thread.task.repository_id,
            key: "with its authority".to_owned(),
            parts: std::collections::BTreeMap::new(),
            layer: format!("snapshot-{id}"),
            image_digest: None,
            package_hosts: Vec::new(),
            size_bytes: None,
            made_at: Some(Timestamp::from_second(1_799_999_000).expect("a time")),
            expires_at: Timestamp::from_second(1_800_000_100).expect("a time"),
            pack_key: Some("shared".to_owned()),
            packed: None,
        };
        self.store.insert_snapshot(new).await.expect("kept")
    }

    async fn packed(&self, like: &Snapshot) -> Option<(SnapshotId, Artifact)> {
        let found = self.store.find_packed(like.organization, like.environment, like.repository, "shared").await;
        found.expect("asked").map(|(snapshot, artifact)| (snapshot.id, artifact))
    }
}

#[tokio::test]
async fn a_packed_snapshot_is_found_and_read_by_another_process_for_as_long_as_it_is_good() {
    let (installation, s3) = (Installation::new(), S3::start());
    let (one, other) = (installation.process(bucket(&s3)).await, installation.process(bucket(&s3)).await);
    let (snapshot, bytes) = (one.snapshot().await, [long(20), b"and some".to_vec()].concat());
    let file = one.folder.path().join("packed");
    std::fs::write(&file, &bytes).expect("written");

    assert_eq!(other.packed(&snapshot).await, None);
    assert_eq!(other.store.snapshots_to_pack().await.expect("asked"), [], "only who has it packs it");
    assert_eq!(one.store.snapshots_to_pack().await.expect("asked"), std::slice::from_ref(&snapshot));
    let kept = one.store.keep_packed(&snapshot, &file).await.expect("kept");
    s3.age(&kept.sha256);

    assert_eq!(one.store.snapshots_to_pack().await.expect("asked"), []);
    assert_eq!(other.packed(&snapshot).await, Some((snapshot.id, kept.clone())));
    assert_eq!(other.store.collect_all_artifacts().await.expect("collected"), 0, "it is needed");
    assert!(other.store.artifact_bytes(&kept).await.expect("bytes") == bytes);

    // Its artifact is lost: who has the layer packs it again.
    other.store.forget_pack(snapshot.id).await.expect("told");
    assert_eq!(other.packed(&snapshot).await, None);
    assert_eq!(one.store.snapshots_to_pack().await.expect("asked").len(), 1);
    assert_eq!(one.store.keep_packed(&snapshot, &file).await.expect("kept again"), kept);
    s3.age(&kept.sha256);

    installation.postgres.query("update snapshot set expires_at = 1").expect("time passes");
    assert_eq!(other.packed(&snapshot).await, None);
    assert_eq!(other.store.collect_all_artifacts().await.expect("collected"), 1);

    installation.postgres.query("update snapshot set expires_at = 1800000100000000").expect("time");
    one.store.leave_unpacked(snapshot.id).await.expect("told");
    assert_eq!((other.packed(&snapshot).await, one.store.snapshots_to_pack().await.expect("asked")), (None, vec![]));
    assert!(one.store.shares_artifacts());
    assert!(!installation.process(ArtifactPlace::DataFolder).await.store.shares_artifacts());
}

#[tokio::test]
async fn what_a_process_refers_to_while_others_collect_it_stays() {
    let (installation, s3) = (Installation::new(), S3::start());
    let collectors = [installation.process(bucket(&s3)).await, installation.process(bucket(&s3)).await];
    let writer = installation.process(bucket(&s3)).await;
    let (attempt, bytes) = (writer.attempt().await, collected_first());

    // The collectors come later than the writer at first, and before it in the end.
    let (mut round, mut collectors_were_first) = (0, 0);
    while collectors_were_first < 3 {
        let artifact = writer.store.keep_artifact(&attempt, "patch", bytes.clone()).await.expect("kept");
        writer.store.keep_artifact(&attempt, "patch", b"another".to_vec()).await.expect("replaced");
        s3.age(&artifact.sha256);
        let object = s3.file(&artifact.sha256);
        let write = async {
            for _ in 0..round {
                let _there_or_not = writer.store.artifact_beginning(&artifact, 1).await;
            }
            collectors_were_first += u32::from(!object.exists());
            writer.store.keep_artifact(&attempt, "patch", bytes.clone()).await
        };
        let (kept, _, _) = tokio::join!(
            write,
            tokio::time::timeout(A_FEW_PARTS, collectors[0].store.collect_all_artifacts()),
            tokio::time::timeout(A_FEW_PARTS, collectors[1].store.collect_all_artifacts()),
        );

        kept.expect("kept");
        assert_eq!(std::fs::read(&object).ok().as_ref(), Some(&bytes), "round {round}");
        round += 1;
        assert!(round < 200, "the collectors never come first");
    }
}

/// As long as it takes to collect the first few of 256 parts.
const A_FEW_PARTS: Duration = Duration::from_millis(300);

/// Bytes that are in the first part that is collected.
fn collected_first() -> Vec<u8> {
    let found = (0..).map(|number: u32| format!("the same bytes again and again, {number}").into_bytes());
    found.into_iter().find(|bytes| Sha256::digest(bytes)[0] == 0).expect("one in 256 is")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_moves_into_a_bucket_and_out_of_it_and_leaves_nothing_there_when_it_is_refused() {
    let (from, to, mut s3) = (Installation::new(), Installation::new(), S3::start());
    let process = from.process(ArtifactPlace::DataFolder).await;
    let given = process.give(&long(9)).await.expect("kept");
    let state = |installation: &Installation, folder: &Path, artifacts| {
        let postgres = Some(Secret::new(installation.postgres.url()));
        StatePlace { folder: folder.to_owned(), postgres, artifacts }
    };
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let source = state(&from, process.folder.path(), ArtifactPlace::DataFolder);
    let target = state(&to, folders[0].path(), bucket(&s3));
    let (_, archive) = export(&source, &[], Vec::new()).await.expect("it is written");
    let empty = s3.files().len();

    let cut = import(&target, &archive[..archive.len() - 1], |_| Ok(())).await;
    let left = s3.files().len();
    import(&target, &archive[..], |_| Ok(())).await.expect("it is taken");
    // Another machine, which has no copy of what is in the bucket.
    let elsewhere = state(&to, folders[1].path(), bucket(&s3));
    let (_, again) = export(&elsewhere, &[], Vec::new()).await.expect("it is written");
    let other = to.process(bucket(&s3)).await;
    let read = other.read(&given).await.expect("its bytes");
    s3.crash();
    std::fs::remove_dir_all(folders[1].path().join("artifacts")).expect("our own folder");
    let unread = export(&elsewhere, &[], Vec::new()).await;

    assert!(cut.is_err() && left == empty, "{left} objects, {empty} before");
    assert_eq!(read.len(), 9 << 20);
    assert!(again == archive, "it is the same archive");
    assert!(matches!(unread, Err(TransferError::Store(StoreError::Artifacts { .. }))), "it is not taken for lost");
}
