//! The quick road against the one that looks at every file: whatever an agent did, the patches are the same bytes.

mod full_disk;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command as Program;

use carrel_domain::{CommitOid, SandboxId};
use carrel_sandbox::{
    Command, Launcher, LayerName, Limits, LocalOptions, ReadOnlyMount, Sandbox, SandboxSpec, Sandboxes,
};
use tempfile::TempDir;
use uuid::Uuid;

use super::quick;
use super::tree::{Diff, Submodules, Tree};
use crate::attempt::OBJECTS;

const WORKSPACE: &str = "/workspace/r";

/// How many agents there are, and the most that each of them does.
const AGENTS: u64 = 60;
const DEEDS: u64 = 8;

/// Two commits: the one that snapshots are prepared at, and the one of another branch.
const REPOSITORY: &str = r#"
set -eu
umask 022
git init -q -b main .
git config user.name test; git config user.email test@localhost
mkdir -p a/b/c d/e 'odd dir' build lib
printf 'one\ntwo\nthree\n' > a/one; printf 'x\n' > a/b/two; printf 'y\n' > a/b/c/three; seq 1 50 > d/long; seq 1 60 > d/e/longer
echo run > d/run.sh; chmod +x d/run.sh; ln -s one a/link; ln -s d dlink; echo odd > 'odd dir/new
line'; echo q > 'odd dir/quote"d'; echo u > 'odd dir/ü'; printf '\0\1\2' > lib/bin; echo top > top; echo kept > build/kept; echo gone > gone
printf '*.o\nbuild/\n' > .gitignore; printf 'local\n!x.o\n' > d/.gitignore
git add -A; git add -f build/kept; git commit -qm one
git checkout -q -b other; echo other > other; git rm -q lib/bin; echo changed >> a/one; git mv d/long d/moved; git add -A; git commit -qm two
git checkout -q main
"#;

const PREPARE: &str = r#"
set -eu
mkdir -p /workspace/r; cd /workspace/r
git init -q --initial-branch=main .
echo /run/carrel/objects > .git/objects/info/alternates
git config user.name Carrel; git config user.email carrel@localhost; git config gc.auto 0
git reset -q --hard "$1"
mkdir -p build/deep node/m; echo o > a/left.o; echo o > build/deep/x; echo m > node/m/x; echo left > left; echo l > d/local
rm gone; git init -q vendored; (cd vendored; echo v > v; git add v; git -c user.name=v -c user.email=v@v commit -qm v)
printf '/node/\n/left\n/vendored/\n' >> .git/info/exclude
git update-index -q --really-refresh || true
"#;

const CHECK_OUT: &str = r#"cd /workspace/r; git symbolic-ref HEAD refs/heads/work; git reset -q --hard "$1""#;

const MAINTAINED: &str = "cd /workspace/r; echo m > maintained; echo /maintained >> .git/info/exclude";

/// What an agent may do. P and Q are paths, D is a folder; what fails has no effect.
const ANYTHING: &[&str] = &[
    "echo new > P",
    "echo more >> P",
    "mkdir -p D/new; echo n > D/new/file; echo n > D/new/file.o",
    "rm -f P",
    "rm -rf D",
    "mv P Q",
    "mv D D2",
    "mv D2 D",
    "mv D Q",
    "rm -rf D; echo file > D",
    "rm -f P; mkdir -p P/x; echo n > P/x/y",
    "ln -sfn one P",
    "rm -rf D; ln -s a D",
    "chmod +x P",
    "chmod 644 P",
    "touch P",
    "ln P Q",
    "ln -f P D/hard",
    "cp -a P D/copy",
    "cp -r D D.copy",
    "rm -rf D; mkdir -p D; echo again > D/again",
    "mkdir D/empty",
    "mkfifo D/fifo",
    "echo x > D/y.o",
    "rm -rf build",
    "rm -f left a/left.o",
    "echo 2 > left",
    "rm -rf node; mkdir node; echo n > node/n",
    "printf '*.log\\n' >> .gitignore; echo l > a/x.log",
    "echo build >> D/.gitignore",
    "echo '!left.o' >> a/.gitignore",
    "rm -f .gitignore",
    "rm -f d/.gitignore",
    "mkdir -p n/g; echo z > n/g/.gitignore; echo z > n/g/z; echo w > n/g/w",
    "echo '* text eol=crlf' > D/.gitattributes",
    "echo 'P -diff' > .gitattributes",
    "printf 'a\\r\\nb\\r\\n' > P",
    "git add P",
    "git add -A",
    "git add -f P",
    "git add -N P",
    "git add D",
    "git rm -q --cached P",
    "git rm -rq --cached D",
    "git rm -rqf D",
    "git mv P Q",
    "git mv D D3",
    "git commit -qam agent",
    "git add -A; git commit -qm agent",
    "git reset -q --soft HEAD~1",
    "git reset -q HEAD~1",
    "git reset -q --hard HEAD~1",
    "git reset -q BASE",
    "git reset -q --hard BASE",
    "git reset -q --soft OTHER",
    "git reset -q OTHER",
    "git checkout -q BASE -- P",
    "git checkout -q OTHER -- .",
    "git checkout -q OTHER",
    "git stash -q",
    "git stash -q -u",
    "git stash pop -q",
    "git checkout -q -b mine",
    "git clean -fdq",
    "git clean -fdxq",
    "git merge -q OTHER",
    "git cherry-pick OTHER",
    "git status",
    "git diff",
    "git gc -q",
    "git update-index --assume-unchanged P; echo hidden >> P",
    "git update-index --skip-worktree P; rm -f P",
    "git update-index --assume-unchanged P; rm -f P",
    "git update-index --chmod=+x P",
    "git update-index --force-remove P",
    "git read-tree OTHER",
    "git read-tree --empty",
    "git update-index --add --cacheinfo 160000,BASE,D/sub",
    "git update-index --add --cacheinfo 160000,BASE,vendored",
    "echo v2 > vendored/v",
    "rm -rf vendored/.git",
    "git add -f vendored",
    "git add -f left node",
    "git add -N -f left",
    "chmod 000 P",
    "chmod 000 D",
    "chmod 555 D",
    "mkdir -p D/repo; git init -q D/repo; echo r > D/repo/r",
    "mkdir -p D/repo; git init -q D/repo; cd D/repo && git -c user.name=a -c user.email=a@a commit -q --allow-empty -m r",
    "git config core.autocrlf true",
    "git config --global user.name agent",
    "git config --global core.autocrlf true",
    "mkdir -p ~/.config/git; echo P > ~/.config/git/ignore",
    "mkdir -p ~/.config/tool",
    "echo '*.x' >> .git/info/exclude",
    "sed -i /left/d .git/info/exclude",
    "rm -f .git/index",
    "rm -rf .git",
    "mv .git .hidden",
    "rm -rf .git; git init -q .",
    "git sparse-checkout set a",
    "git update-index --split-index",
    "git update-index --untracked-cache",
    "git update-index --index-version 4",
    "echo junk > .git/index",
    "cp P \"$(printf 'a/new\\nline')\"",
    "echo s > 'a/ '",
    "mkdir -p $'D/\\xff'; echo b > $'D/\\xff/\\xfe'",
    "echo b > $'D/\\xfe'",
    "setfattr -n user.overlay.opaque -v y D",
    "cd ..; mv r s; cp -a s r",
    "cd ..; mv r s; ln -s s r",
    "cd ..; rm -rf r; mkdir r",
    "echo '[submodule \"x\"]' > .gitmodules",
    "ln -s ../top D/.git",
    "mkdir D/.GIT; echo x > D/.GIT/x",
];

const PATHS: &[&str] = &[
    "a/one",
    "a/b/two",
    "a/b/c/three",
    "d/long",
    "d/e/longer",
    "d/run.sh",
    "a/link",
    "dlink",
    "'odd dir/quote\"d'",
    "'odd dir/ü'",
    "$'odd dir/new\\nline'",
    "lib/bin",
    "top",
    "build/kept",
    "left",
    "a/left.o",
    "node/m/x",
    "fresh",
    "a/fresh",
    "d/e/fresh",
    "d/local",
    "build/fresh",
    "vendored/v",
    "'*'",
    "':(top)a'",
    "D/fresh",
    "a/new/x",
    "other",
    "-x",
    "maintained",
    "d/moved",
    "gone",
];

const FOLDERS: &[&str] =
    &["a", "a/b", "a/b/c", "d", "d/e", "'odd dir'", "lib", "build", "node", "fresh", "d/new", "vendored", "build/deep"];

/// Deeds that leave the agent on the quick road, as most agents are.
const PLAIN: usize = 28;

/// Chance that is the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn of<'a>(&mut self, things: &[&'a str]) -> &'a str {
        things[usize::try_from(self.below(things.len() as u64)).expect("it is small")]
    }
}

struct World {
    folder: TempDir,
    sandboxes: Sandboxes,
    commits: [CommitOid; 2],
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR").to_owned() + "/../../target/tmp")
            .or_else(|_not_ours| tempfile::tempdir())
            .expect("a folder");
        Self::in_folder(folder).await
    }

    async fn in_folder(folder: TempDir) -> Self {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
        let repository = folder.path().join("repository");
        fs::create_dir(&repository).expect("made");
        git(&repository, REPOSITORY);
        let commits =
            ["main", "other"].map(|name| git(&repository, &format!("git rev-parse {name}")).parse().expect("a commit"));
        let options = LocalOptions {
            folder: folder.path().join("sandboxes"),
            private_paths: Vec::new(),
            launcher: Launcher::beside_tests().expect("the launcher is built"),
            limits: Limits::default(),
        };
        let sandboxes = Sandboxes::open(options).await.expect("sandboxes can be made here");
        let world = Self { folder, sandboxes, commits };
        let builder = world.launch(&[]).await;
        world.run(&builder, PREPARE, world.commits[0].as_str()).await;
        world.sandboxes.keep(builder.id(), &name("snapshot-1")).await.expect("kept");
        world
    }

    async fn launch(&self, layers: &[LayerName]) -> Sandbox {
        let objects: PathBuf = self.folder.path().join("repository/.git/objects");
        let spec = SandboxSpec {
            mounts: vec![ReadOnlyMount { source: objects, target: OBJECTS.to_owned() }],
            layers: layers.to_vec(),
            ..SandboxSpec::new(SandboxId::from_uuid(Uuid::now_v7()))
        };
        self.sandboxes.launch(spec).await.expect("launched")
    }

    async fn run(&self, sandbox: &Sandbox, script: &str, argument: &str) {
        let ran = self.try_run(sandbox, script, argument).await;
        assert!(ran.status.is_success(), "{script}: {ran:?}");
    }

    async fn try_run(&self, sandbox: &Sandbox, script: &str, argument: &str) -> carrel_sandbox::Finished {
        let id = Uuid::now_v7().to_string();
        let command = Command::new(id, ["bash", "-c", script, "test", argument]).directory("/");
        sandbox.run(command).await.expect("it runs")
    }

    /// The patch of the quick road, if it was taken, and of the other one.
    async fn both(
        &self,
        sandbox: &Sandbox,
        lineage: &[LayerName],
        base: &CommitOid,
    ) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let tree = Tree {
            sandboxes: &self.sandboxes,
            sandbox,
            workspace: WORKSPACE.to_owned(),
            base: base.clone(),
            lineage: lineage.to_vec(),
            limit: 10_000_000,
        };
        let quick = quick::patch(&tree).await;
        let added = tree.add_all().await.expect("it runs");
        let all = match tree.diff(Submodules::Left).await.expect("it runs") {
            Diff::Patch(bytes) if added.status.is_success() => Some(bytes),
            _ => None,
        };
        if quick.is_some() && all.is_some() {
            assert_eq!(String::from_utf8_lossy(&added.output), "", "there was something to warn of");
        }
        (quick, all)
    }
}

fn name(text: &str) -> LayerName {
    text.parse().expect("a name")
}

fn git(folder: &Path, script: &str) -> String {
    let mut program = Program::new("bash");
    program
        .args(["-c", script])
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    let output = program.output().expect("bash is there");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What an agent does, line by line.
fn deeds(chance: &mut Chance, commits: &[CommitOid; 2], is_plain: bool) -> String {
    let mut script = "cd /workspace/r\n".to_owned();
    for _ in 0..=chance.below(DEEDS) {
        let deed = chance.of(if is_plain { &ANYTHING[..PLAIN] } else { ANYTHING });
        let folder = chance.of(FOLDERS);
        let [path, other] = [chance.of(PATHS), chance.of(PATHS)].map(|path| path.replace('D', folder));
        let mut words = String::new();
        let mut rest = deed;
        // A letter of its own stands for something.
        while let Some(at) = rest.find(['P', 'Q', 'D', 'B', 'O']) {
            words.push_str(&rest[..at]);
            let (stands_for, taken) = match &rest.as_bytes()[at..] {
                [b'B', b'A', b'S', b'E', ..] => (commits[0].as_str(), 4),
                [b'O', b'T', b'H', b'E', b'R', ..] => (commits[1].as_str(), 5),
                [b'H' | b'B' | b'O', ..] => (&rest[at..=at], 1),
                [_, b'a'..=b'z' | b'A'..=b'Z', ..] => (&rest[at..=at], 1),
                _ if words.ends_with(|letter: char| letter.is_ascii_alphabetic()) => (&rest[at..=at], 1),
                [b'P', ..] => (path.as_str(), 1),
                [b'Q', ..] => (other.as_str(), 1),
                _ => (folder, 1),
            };
            words.push_str(stands_for);
            rest = &rest[at + taken..];
        }
        words.push_str(rest);
        writeln!(script, "( {words} ) </dev/null >/dev/null 2>&1").expect("it is memory");
    }
    script
}

#[tokio::test]
async fn the_quick_road_makes_the_same_patch_as_a_look_at_every_file() {
    let world = World::new().await;
    let (mut quick_ones, mut changed, mut wrong) = (0, 0, Vec::new());

    for seed in 0..AGENTS {
        let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) + 1);
        let is_plain = seed % 2 == 0;
        let base = &world.commits[usize::from(chance.below(4) == 0)];
        let mut layers = vec![name("snapshot-1")];
        let turns = 1 + chance.below(3) / 2;
        let mut did = String::new();
        for turn in 0..=turns {
            let sandbox = world.launch(&layers).await;
            if turn == 0 {
                world.run(&sandbox, CHECK_OUT, base.as_str()).await;
                if chance.below(4) == 0 {
                    world.run(&sandbox, MAINTAINED, "").await;
                }
                quick::note_before(&world.sandboxes, &sandbox, WORKSPACE).await.expect("noted");
            }
            let script = deeds(&mut chance, &world.commits, is_plain);
            world.try_run(&sandbox, &script, "").await;
            did.push_str(&script);
            let lineage = &layers[..layers.len() - 1];
            let (quick, all) = world.both(&sandbox, lineage, base).await;
            if let Some(quick) = quick {
                quick_ones += 1;
                changed += usize::from(!quick.is_empty());
                if Some(&quick) != all.as_ref() {
                    let all = all.map(|all| String::from_utf8_lossy(&all).into_owned());
                    wrong.push(format!(
                        "{seed}.{turn}: {did}\nquick: {}\nall: {all:?}",
                        String::from_utf8_lossy(&quick)
                    ));
                }
            }
            let kept = name(&format!("attempt-{seed}-{turn}"));
            world.sandboxes.keep(sandbox.id(), &kept).await.expect("kept");
            layers.insert(0, kept);
        }
    }

    assert!(wrong.is_empty(), "{} of {quick_ones}:\n{}", wrong.len(), wrong.join("\n\n"));
    assert!(
        quick_ones >= 50 && changed >= 35,
        "only {changed} of {quick_ones} patches of the quick road had something in them"
    );
}

#[tokio::test]
async fn a_repository_that_takes_no_objects_any_more_still_gives_its_patch() {
    let world = World::new().await;
    let sandbox = world.launch(&[name("snapshot-1")]).await;
    let base = &world.commits[0];
    world.run(&sandbox, CHECK_OUT, base.as_str()).await;
    quick::note_before(&world.sandboxes, &sandbox, WORKSPACE).await.expect("noted");
    world.run(&sandbox, "cd /workspace/r && echo agent >> top && chmod -R a-w .git/objects", "").await;

    let (quick, all) = world.both(&sandbox, &[], base).await;

    let all = String::from_utf8(all.expect("there is a patch")).expect("text");
    assert!(all.contains("+agent"), "{all}");
    assert_eq!(quick, None, "git has something to say");
}

#[tokio::test]
async fn a_collection_that_was_killed_is_not_in_the_way_of_the_next() {
    let world = World::new().await;
    let sandbox = world.launch(&[name("snapshot-1")]).await;
    let base = &world.commits[0];
    world.run(&sandbox, CHECK_OUT, base.as_str()).await;
    quick::note_before(&world.sandboxes, &sandbox, WORKSPACE).await.expect("noted");
    world.run(&sandbox, "cd /workspace/r && echo agent >> top", "").await;
    let left =
        "mkdir -p /tmp/.carrel-git && touch /tmp/.carrel-index /tmp/.carrel-index.lock /tmp/.carrel-git/config.lock";
    world.run(&sandbox, left, "").await;
    let (quick, _) = world.both(&sandbox, &[], base).await;
    world.run(&sandbox, left, "").await;
    world.run(&sandbox, "rm -rf /workspace/r/.git/HEAD", "").await;

    let (_, of_a_broken_one) = world.both(&sandbox, &[], base).await;

    let quick = String::from_utf8(quick.expect("there is a patch")).expect("text");
    assert!(quick.contains("+agent"), "{quick}");
    let all = String::from_utf8(of_a_broken_one.expect("there is a patch")).expect("text");
    assert!(all.contains("+agent"), "{all}");
}
