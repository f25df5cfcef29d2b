//! Attempts on images: from Debian's registry on loopback, made by Debian's tools, and in a folder.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use carrel_testkit::model::{Reply, Script};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{CARREL, FILES, World, attempt, of_type, reason, says};

/// A small root file system out of this machine's own programs and their libraries.
const ROOT: &str = r#"
    set -eu; umask 022
    mkdir -p root/tmp root/root root/etc root/var root/usr/bin root/bin
    echo 'root:x:0:0:root:/root:/bin/bash' > root/etc/passwd; echo made > root/made
    mkdir -p root/etc/profile.d root/opt/here; printf '#!/bin/sh\necho a tool\n' > root/opt/here/tool; chmod 755 root/opt/here/tool
    printf 'PATH=/usr/bin:/bin; export PATH; for file in /etc/profile.d/*.sh; do . "$file"; done\n' > root/etc/profile
    take() { if [ ! -e "root$1" ]; then mkdir -p "root${1%/*}"; cp -L "$1" "root$1"; fi; }
    for tool in bash sh git sed cat cp mkdir rm id chown stat; do
      file=$(command -v $tool); take "$file"
      for library in $(ldd "$file" | grep -o '/[^ )]*'); do take "$library"; done
      [ -e root/bin/$tool ] || ln "root$file" root/bin/$tool
    done"#;

/// The root as an image `tools:1`, one of busybox alone as `bare:1`, one of a single program without any shell as `scratch:1`,
/// and one for another processor as `foreign:1`.
const IMAGES: &str = r#"
    mkdir -p busybox/bin; cp /bin/busybox busybox/bin/busybox; ln -s busybox busybox/bin/sh
    mkdir -p single; cp /bin/busybox single/only; chmod 755 single/only
    image() {
      umoci init --layout "$1"; umoci new --image "$1:1"
      umoci config --image "$1:1" --os linux --architecture "$3" --config.env PATH=/bin:/opt/here --config.env FROM_IMAGE=yes
      tar --owner=0 --group=0 --sort=name -C "$2" -cf "$1.tar" .; umoci raw add-layer --image "$1:1" "$1.tar"
      skopeo --insecure-policy copy -q --dest-tls-verify=false "oci:$1:1" "docker://$registry/team/$1:1"
    }
    here=$(dpkg --print-architecture)
    image tools root "$here"; image bare busybox "$here"; image scratch single "$here"; image foreign busybox mips"#;

/// A running docker-registry with these images.
pub(crate) struct Registry {
    folder: TempDir,
    process: Child,
    pub(crate) address: String,
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself; the folder goes all the same.
        let _ended = self.process.kill();
        let _waited = self.process.wait();
    }
}

impl Registry {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("the temporary folder is writable");
        let config = folder.path().join("registry.yml");
        let storage = folder.path().join("storage");
        let text = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n",
            storage.display()
        );
        std::fs::write(&config, text).expect("written");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("docker-registry (a Debian package) is needed");
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        let address = lines.find_map(|line| {
            let line = line.expect("text");
            let (_, rest) = line.split_once("listening on ")?;
            rest.split(['"', ',']).next().map(str::to_owned)
        });
        // What it says later must go somewhere, or it would stop.
        std::thread::spawn(move || lines.for_each(drop));
        let registry = Self { folder, process, address: address.expect("it says where it listens") };
        bash(registry.folder.path(), &format!("{ROOT}\nregistry={}\n{IMAGES}", registry.address));
        registry
    }

    /// The name of one of its images.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/team/{name}", self.address)
    }

    async fn world(&self, script: Script) -> World {
        World::with(CARREL, script, &[("CARREL_PLAIN_REGISTRIES", &self.address)]).await
    }
}

fn bash(folder: &Path, script: &str) {
    let output = Command::new("bash").args(["-c", script]).current_dir(folder).output().expect("bash");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

impl Registry {
    /// Ends it, as an outage would; its images stay.
    fn end(&mut self) {
        self.process.kill().expect("our own process");
        self.process.wait().expect("our own process");
    }
}

/// Looks around, and becomes another user for a file of the image's own.
const LOOK: &str = "id -u; cat /made; echo $FROM_IMAGE; [ -z \"$FROM_IMAGE\" ] || tool; chown 33:34 /made && stat -c %u:%g /made; \
     command -v python3 || echo 'no python3'; echo 42 > answer";

fn looks() -> Script {
    says([Reply::command(LOOK), Reply::message("Done.")])
}

/// Runs a task on an image; it and its events.
async fn run_on(world: &World, name: &str, image: &str) -> (Value, Vec<Value>) {
    let repository = world.repository("project", FILES);
    world.json(&["environment", "create", name, "--no-setup", "--image", image]).await;
    run_in(world, name, &repository).await
}

async fn run_in(world: &World, name: &str, repository: &carrel_testkit::Repository) -> (Value, Vec<Value>) {
    let id = world.create_with(repository, &["--environment", name, "Look"]).await;
    let task = world.ended(&id).await;
    let events = world.events(&id).await;
    (task, events)
}

fn assert_looked(task: &Value, events: &[Value]) {
    assert_eq!(attempt(task)["state"], "ready", "{task:#}\n{events:#?}");
    assert_eq!(attempt(task)["result"]["patch"]["additions"], 1, "{task:#}");
    let output: String =
        of_type(events, "command.output").iter().filter_map(|event| event["data"]["text"].as_str()).collect();
    assert!(output.starts_with("0\nmade\n") && output.ends_with("33:34\nno python3\n"), "{output}");
}

/// What was told of pulling layers.
fn pulls(events: &[Value]) -> usize {
    let told = of_type(events, "attempt.progress").into_iter().filter_map(|event| event["data"]["message"].as_str());
    told.filter(|message| message.starts_with("pulling the image")).count()
}

#[tokio::test]
async fn an_attempt_is_root_in_an_image_of_a_registry_which_is_pulled_once() {
    let registry = Registry::start();
    let world = registry.world(looks()).await;

    let (task, events) = run_on(&world, "tools", &registry.image("tools:1")).await;
    let (again, events_again) = run_on(&world, "same", &registry.image("tools:1")).await;

    assert_looked(&task, &events);
    assert_looked(&again, &events_again);
    assert!(json!(events).to_string().contains("yes\\n"), "the image's variables are there: {events:#?}");
    assert!(
        json!(events).to_string().contains("a tool\\n"),
        "its PATH is, though its profile sets another: {events:#?}"
    );
    let image = |events: &[Value]| of_type(events, "environment.resolved")[0]["data"]["image"].clone();
    let named = image(&events);
    let digest = named.as_str().and_then(|text| text.split_once(" (sha256:")).map(|(_, digest)| digest.len());
    assert_eq!(digest, Some(65), "{named}");
    assert_eq!(image(&events_again), named);
    assert!(pulls(&events) > 0, "{events:#?}");
    assert_eq!(pulls(&events_again), 0, "{events_again:#?}");
}

/// Reads the file with a program of the agent's own choice and with git, and changes it.
const WORK: &str =
    "command -v sh bash git; id -u; git status --short; /bin/sh -c 'echo a shell'; cat answer; echo 43 > answer";

#[tokio::test]
async fn what_an_image_lacks_comes_from_this_machine_and_what_it_has_is_its_own() {
    let registry = Registry::start();
    let script = says([Reply::command(WORK), Reply::message("Done.")]);
    let world = registry.world(script).await;
    let repository = world.repository("project", &[("answer", "42\n")]);

    // The shell of the second is put in place, because programs start it by its path.
    for name in ["bare", "scratch"] {
        let image = registry.image(&format!("{name}:1"));
        let setup = world.folder().join("setup.sh");
        std::fs::write(&setup, "git log --oneline | cat; mkdir -p /made; echo ready > /made/it").expect("written");
        let setup = setup.to_string_lossy();
        world.json(&["environment", "create", name, "--setup-script", &setup, "--image", &image]).await;
        let (task, events) = run_in(&world, name, &repository).await;

        assert_eq!(attempt(&task)["state"], "ready", "{task:#}\n{events:#?}");
        let patch = &attempt(&task)["result"]["patch"];
        assert_eq!((&patch["additions"], &patch["deletions"]), (&json!(1), &json!(1)), "{task:#}");
        let output: String =
            of_type(&events, "command.output").iter().filter_map(|event| event["data"]["text"].as_str()).collect();
        let expected = "/bin/sh\n/opt/carrel/bin/bash\n/opt/carrel/bin/git\n0\na shell\n42\n";
        assert!(output.ends_with(expected), "{output}");
        let told =
            of_type(&events, "attempt.progress").into_iter().filter_map(|event| event["data"]["message"].as_str());
        let told: Vec<&str> =
            told.filter(|message| message.starts_with(&format!("the image {image} has no "))).collect();
        assert_eq!(told.len(), 1, "{events:#?}");
        assert!(told[0].contains("no bash, no git") && told[0].ends_with("come from this machine, at the end of PATH"));
    }
}

#[tokio::test]
async fn an_image_without_git_is_refused_with_the_way_out_where_this_machine_has_none_to_lend() {
    let registry = Registry::start();
    let bin = registry.folder.path().join("bin");
    // All that the service itself needs, but not what a kit is made of.
    bash(registry.folder.path(), "mkdir bin; ln -s \"$(command -v git)\" bin/git");
    let path = bin.to_string_lossy().into_owned();
    let settings = [("CARREL_PLAIN_REGISTRIES", registry.address.as_str()), ("PATH", path.as_str())];
    let world = World::with(CARREL, looks(), &settings).await;

    let (task, events) = run_on(&world, "bare", &registry.image("bare:1")).await;

    let reason = reason(&task);
    assert!(reason.contains("this machine has no `bash` in its PATH; install it"), "{reason}\n{events:#?}");
    assert_eq!(attempt(&task)["failure"]["stage"], "setting_up");
}

#[tokio::test]
async fn an_image_that_cannot_be_had_says_why() {
    let registry = Registry::start();
    let world = registry.world(looks()).await;
    let foreign = registry.image("foreign:1");
    let cases = [
        ("tag", registry.image("tools:2"), "tools:2"),
        ("name", registry.image("nothing:1"), "nothing:1"),
        ("platform", foreign.clone(), "mips"),
        ("plain", "127.0.0.1:1/team/tools:1".to_owned(), "127.0.0.1:1"),
    ];

    for (name, image, says) in cases {
        let (task, _) = run_on(&world, name, &image).await;
        let reason = reason(&task);
        assert!(reason.contains(says), "{image}: {reason}");
    }
}

#[tokio::test]
async fn an_image_that_was_had_before_does_while_its_registry_is_down_and_not_when_it_says_no() {
    let mut registry = Registry::start();
    let world = registry.world(looks()).await;
    let (first, _) = run_on(&world, "tools", &registry.image("tools:1")).await;
    let repository = carrel_testkit::Repository::at(&world.folder().join("project"));
    let tags = registry.folder.path().join("storage/docker/registry/v2/repositories/team/tools/_manifests");
    let aside = registry.folder.path().join("aside");

    std::fs::rename(&tags, &aside).expect("our own folder");
    let (taken_back, _) = run_in(&world, "tools", &repository).await;
    std::fs::rename(&aside, &tags).expect("our own folder");
    registry.end();
    let (down, events) = run_in(&world, "tools", &repository).await;
    let (never_seen, _) = run_on(&world, "other", &registry.image("bare:1")).await;

    assert_eq!(attempt(&first)["state"], "ready", "{first:#}");
    assert!(reason(&taken_back).contains("does not exist or needs a login"), "{}", reason(&taken_back));
    assert_eq!(attempt(&down)["state"], "ready", "{down:#}\n{events:#?}");
    let warned = crate::setup::messages(&events, "attempt.warning");
    let says =
        |message: &&str| message.contains("cannot be reached") && message.contains("as it was last time (sha256:");
    assert!(warned.iter().any(says), "{warned:?}");
    assert!(reason(&never_seen).contains("cannot be reached"), "{}", reason(&never_seen));
}

#[tokio::test]
async fn a_folder_that_serves_as_an_image_is_another_image_once_something_in_it_is_replaced() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    bash(folder.path(), ROOT);
    let root = folder.path().join("root");
    let listed = folder.path().to_string_lossy();
    let world = World::with(CARREL, looks(), &[("CARREL_IMAGE_FOLDERS", &listed)]).await;
    let looked_up = |events: &[Value]| of_type(events, "snapshot.looked_up")[0]["data"]["reason"].to_string();

    let (_, first) = run_on(&world, "folder", &root.to_string_lossy()).await;
    let repository = carrel_testkit::Repository::at(&world.folder().join("project"));
    let (_, second) = run_in(&world, "folder", &repository).await;
    bash(&root, "echo new > opt/here/new.tmp; mv opt/here/new.tmp opt/here/tool2");
    let (_, third) = run_in(&world, "folder", &repository).await;
    let (_, fourth) = run_in(&world, "folder", &repository).await;

    assert!(looked_up(&first).contains("nothing is kept"), "{first:#?}");
    assert!(looked_up(&second).contains("reusing"), "what sandboxes do leaves it as it is: {second:#?}");
    assert!(looked_up(&third).contains("there is another image"), "{third:#?}");
    assert!(looked_up(&fourth).contains("reusing"), "{fourth:#?}");
}

#[tokio::test]
async fn an_attempt_works_in_a_folder_as_its_root_which_stays_as_it_is() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    bash(folder.path(), ROOT);
    let root = folder.path().join("root");
    let listed = folder.path().to_string_lossy();
    let world = World::with(CARREL, looks(), &[("CARREL_IMAGE_FOLDERS", &listed)]).await;

    let (task, events) = run_on(&world, "folder", &root.to_string_lossy()).await;
    std::fs::rename(&root, folder.path().join("gone")).expect("our own folder");
    let (gone, _) = run_in(&world, "folder", &carrel_testkit::Repository::at(&world.folder().join("project"))).await;
    std::fs::rename(folder.path().join("gone"), &root).expect("our own folder");

    assert_looked(&task, &events);
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(std::fs::metadata(root.join("made")).expect("it is there").uid(), 0);
    assert!(!root.join("workspace").exists());
    assert!(reason(&gone).contains("is no folder of this machine"), "{}", reason(&gone));
}
