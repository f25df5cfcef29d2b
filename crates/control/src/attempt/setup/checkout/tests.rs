//! Moving from a snapshot's commit to another against the check-out that looks at every file: whatever setup has done, and
//! wherever it goes, the work tree and the index are the same.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command as Program;

use carrel_domain::SandboxId;
use carrel_sandbox::{Launcher, LayerName, Limits, LocalOptions, ReadOnlyMount, SandboxSpec, Sandboxes};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;

const WORKSPACE: &str = "/workspace/r";

/// How many setups there are, and the most that each of them does.
const SETUPS: usize = 60;
const DEEDS: usize = 5;

/// Commits that differ in everything a tree can: contents, modes, links, folders in place of files, repositories, line ends.
const REPOSITORY: &str = r#"
set -eu
umask 022
git init -q -b main .
git config user.name test; git config user.email test@localhost
mkdir -p a/b/c d/e 'odd dir' lib
printf 'one\ntwo\n' > a/one; echo x > a/b/two; echo y > a/b/c/three; seq 1 50 > d/long; echo run > d/run.sh; chmod +x d/run.sh
ln -s one a/link; ln -s d dlink; echo odd > 'odd dir/new
line'; echo u > 'odd dir/ü'; printf '\0\1\2' > lib/bin; echo top > top; echo gone > gone; echo Case > Case; echo swap > swap
printf 'crlf\r\n' > crlf.txt; printf 'lf\n' > lf.txt; echo filtered > x.f; printf '*.o\nbuild/\n' > .gitignore; echo '*.f filter=upper' > .gitattributes
git add -A; git update-index --add --cacheinfo 160000,$(git hash-object -t tree /dev/null | cut -c1-39)1,sub; git commit -qm one
git commit -q --allow-empty -m same; git branch same
git checkout -q -b next; echo more >> a/one; echo new > fresh; git rm -q gone; git add -A; git update-index --add --cacheinfo 160000,$(git hash-object -t tree /dev/null | cut -c1-39)2,sub; git commit -qm next
git checkout -q -b far main~1 2>/dev/null || git checkout -q -b far main
git rm -rq --cached sub; git rm -rq a/b lib swap; mkdir swap; echo s > swap/s; rm dlink; mkdir dlink; echo d > dlink/d; ln -sfn long d/e; rm -f a/link; echo file > a/link
chmod -x d/run.sh; chmod +x top; mv Case case; echo moved >> x.f; printf '*.txt text eol=crlf\n*.f filter=upper\n' > .gitattributes; echo a > left; mkdir node; echo n > node/m; echo b > build; echo '*.log' > .gitignore
mkdir -p new/deep/er; echo z > new/deep/er/z; git mv d/long d/moved; git add -A; git add -f build; git commit -qm far
git checkout -q --orphan bare; git rm -rqf . ; echo only > only; git add only; git commit -qm bare
"#;

/// What setup may do. P is a path, C a commit; what fails has no effect.
const ANYTHING: &[&str] = &[
    "echo changed > P",
    "echo more >> P",
    "rm -rf P",
    "mkdir -p P; echo u > P/untracked",
    "rm -rf P; mkdir -p P/x; echo n > P/x/y",
    "rm -rf P; ln -s top P",
    "rm -rf P; git init -q P; echo r > P/r",
    "chmod +x P",
    "chmod 644 P",
    "touch P",
    "mv P moved-away",
    "mkdir -p node build; echo i > node/m; echo o > build/o; echo l > x.log; echo left > left",
    "mkdir -p new/deep; echo f > new/deep/er",
    "echo s > swap.new; mkdir -p fresh; echo x > fresh/x",
    "git add -A; git commit -qm setup",
    "git add P",
    "git add -N fresh; echo x > fresh; git add -N fresh",
    "git rm -rq --cached P",
    "git rm -rqf P",
    "git checkout -q C",
    "git checkout -q -b mine C",
    "git reset -q --soft C",
    "git reset -q C",
    "git merge -q C",
    "git cherry-pick C",
    "git stash -qu",
    "git read-tree --empty",
    "git update-index --assume-unchanged P; echo hidden >> P",
    "git update-index --skip-worktree P; echo hidden >> P",
    "git update-index --skip-worktree P; rm -rf P",
    "git update-index --chmod=+x P",
    "git update-index --index-version 4",
    "git update-index --split-index",
    "git update-index --untracked-cache",
    "git config feature.manyFiles true",
    "git config core.autocrlf true",
    "git config core.autocrlf input",
    "git config --global core.autocrlf true",
    "git config core.fileMode false",
    "git config core.symlinks false",
    "git config core.ignoreCase true",
    "git config submodule.recurse true",
    "git config checkout.workers 4; git config checkout.thresholdForParallelism 0",
    "git config filter.upper.smudge 'tr a-z A-Z'; git config filter.upper.clean 'tr A-Z a-z'",
    "git config filter.upper.smudge 'tr a-z A-Z'; git config filter.upper.clean 'tr A-Z a-z'; rm -f x.f; git checkout -q -- x.f",
    "git config filter.upper.smudge false; git config filter.upper.required true",
    "git sparse-checkout set a",
    "git sparse-checkout set --no-cone '/*' '!d'",
    "git sparse-checkout set --sparse-index a",
    "git config core.sparseCheckout true; echo '/top' > .git/info/sparse-checkout",
    "echo '*.txt text eol=crlf' > .gitattributes; git add -A",
    "echo '*.txt text eol=crlf' > .git/info/attributes",
    "echo '/P' >> .git/info/exclude",
    "printf '#!/bin/sh\\nexit 1\\n' > .git/hooks/post-checkout; chmod +x .git/hooks/post-checkout",
    "printf '#!/bin/sh\\necho hook > hooked\\n' > .git/hooks/post-index-change; chmod +x .git/hooks/post-index-change",
    "printf '#!/bin/sh\\nexit 1\\n' > .git/hooks/reference-transaction; chmod +x .git/hooks/reference-transaction",
    "git worktree add -q ../other C",
    "git branch carrel/nested",
    "git gc -q",
    "git pack-refs --all",
    "git bisect start; git bisect bad",
    "rm -f .git/index",
    "rm -rf .git",
    "rm -rf .git; git init -q .; git add -A",
    "echo junk > .git/index",
    "touch .git/index.lock",
    "touch .git/HEAD.lock",
    "mv .git ../elsewhere; echo 'gitdir: ../elsewhere' > .git",
    "mv .git ../elsewhere; ln -s ../elsewhere .git",
    "git config core.worktree /tmp",
    "chmod 555 a",
    "chmod 000 P",
];

const PATHS: &[&str] = &[
    "a",
    "a/one",
    "a/b",
    "a/b/two",
    "a/b/c/three",
    "a/link",
    "d",
    "d/long",
    "d/run.sh",
    "d/e",
    "dlink",
    "lib/bin",
    "top",
    "gone",
    "Case",
    "case",
    "swap",
    "crlf.txt",
    "lf.txt",
    "x.f",
    "sub",
    "fresh",
    "left",
    "node",
    "build",
    "only",
    ".gitattributes",
    ".gitignore",
    "'odd dir'",
];

/// All that the work tree, the index and the branch are.
const SEEN: &str = r#"
cd /workspace/r
find . -path ./.git -prune -o -printf '%p %y %m %l\n' | sort
find . -path ./.git -prune -o -type f -print0 | sort -z | xargs -0 -r sha256sum
git symbolic-ref HEAD; git rev-parse HEAD 'HEAD^{tree}'; git ls-files -s -v; git status --porcelain --ignored; git diff --binary HEAD | sha256sum
git branch --list --format='%(refname) %(objectname)'
"#;

struct World {
    folder: TempDir,
    sandboxes: Sandboxes,
    /// One, a commit with the same files, the one after, one far away, and one that has nothing in common with them.
    commits: Vec<String>,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
        let repository = folder.path().join("repository");
        fs::create_dir(&repository).expect("made");
        git(&repository, REPOSITORY);
        let commits = ["main~1", "same", "next", "far", "bare"];
        let commits = commits.iter().map(|name| git(&repository, &format!("git rev-parse {name}"))).collect();
        let options = LocalOptions {
            folder: folder.path().join("sandboxes"),
            private_paths: Vec::new(),
            launcher: Launcher::beside_tests().expect("the launcher is built"),
            limits: Limits::default(),
        };
        let sandboxes = Sandboxes::open(options).await.expect("sandboxes can be made here");
        Self { folder, sandboxes, commits }
    }

    async fn launch(&self, layers: &[LayerName]) -> Sandbox {
        let source = self.folder.path().join("repository/.git/objects");
        let spec = SandboxSpec {
            mounts: vec![ReadOnlyMount { source, target: OBJECTS.to_owned() }],
            layers: layers.to_vec(),
            ..SandboxSpec::new(SandboxId::from_uuid(Uuid::now_v7()))
        };
        self.sandboxes.launch(spec).await.expect("launched")
    }

    /// A snapshot at the first commit after a setup like this; whether it was left ready.
    async fn snapshot(&self, setup: &str) -> (LayerName, bool) {
        let builder = self.launch(&[]).await;
        let first = Wanted { workspace: WORKSPACE, commit: &self.commits[0], branch: "main" };
        let checked_out = reset(&builder, first, "check-out").await.expect("it runs");
        assert!(checked_out.status.is_success(), "{checked_out:?}");
        run(&builder, setup).await;
        builder.kill_all().await.expect("ended");
        let at_rest = Wanted { branch: BRANCH, ..first };
        let is_ready = tidied(&builder, at_rest).await.expect("it runs");
        builder.kill_all().await.expect("ended");
        if is_ready {
            noted(&builder, at_rest).await.expect("written");
        }
        let layer: LayerName = format!("snapshot-{}", Uuid::now_v7()).parse().expect("a name");
        self.sandboxes.keep(builder.id(), &layer).await.expect("kept");
        (layer, is_ready)
    }

    /// Whether git leaves the work tree alone when it is told to check out what it has just checked out, so that an attempt
    /// at that commit may leave it alone as well. It does not where an index was lost while the checkout was a sparse one:
    /// the first time everything is there, the second time it is not.
    async fn is_settled(&self, layer: &LayerName) -> bool {
        let sandbox = self.launch(std::slice::from_ref(layer)).await;
        let first = seen(&sandbox).await;
        let at_rest = Wanted { workspace: WORKSPACE, commit: &self.commits[0], branch: BRANCH };
        let again = reset(&sandbox, at_rest, "check-out").await.expect("it runs");
        let second = seen(&sandbox).await;
        self.sandboxes.destroy(sandbox.id()).await.expect("ended");
        again.status.is_success() && first == second
    }
}

async fn run(sandbox: &Sandbox, script: &str) -> Finished {
    let id = Uuid::now_v7().to_string();
    sandbox.run(Command::new(id, ["bash", "-c", script]).directory("/")).await.expect("it runs")
}

async fn seen(sandbox: &Sandbox) -> String {
    let finished = run(sandbox, SEEN).await;
    format!("{}{}", String::from_utf8_lossy(&finished.output), finished.stderr)
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

/// Chance that is the same each time.
struct Chance(u64);

impl Chance {
    fn of<'a>(&mut self, things: &'a [impl AsRef<str>]) -> &'a str {
        things[self.below(things.len())].as_ref()
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }
}

/// What a setup does, line by line: the first in turn, so that each is done once, and some by chance.
fn setup(chance: &mut Chance, number: usize, commits: &[String]) -> String {
    let mut script = "cd /workspace/r\n".to_owned();
    let by_chance: Vec<&str> = (0..chance.below(DEEDS)).map(|_| chance.of(ANYTHING)).collect();
    for deed in by_chance.into_iter().chain([ANYTHING[number % ANYTHING.len()]]) {
        let (path, commit) = (chance.of(PATHS), chance.of(commits));
        let words: Vec<String> = deed
            .split(' ')
            .map(|word| match word.strip_prefix('C') {
                Some(rest @ ("" | ";")) => format!("{commit}{rest}"),
                _ if word.starts_with('P') || word.starts_with("'/P") => word.replacen('P', path, 1),
                _ => word.to_owned(),
            })
            .collect();
        writeln!(script, "( {} ) </dev/null >/dev/null 2>&1", words.join(" ")).expect("it is memory");
    }
    script
}

#[tokio::test]
async fn a_move_between_commits_leaves_what_a_check_out_of_every_file_does() {
    let world = World::new().await;
    let (mut moves, mut unready, mut unsettled, mut refused, mut wrong) = (0, 0, 0, Vec::new(), Vec::new());

    for number in 0..SETUPS.max(ANYTHING.len()) {
        let mut chance = Chance((number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) + 1);
        let setup = setup(&mut chance, number, &world.commits);
        let (layer, is_ready) = world.snapshot(&setup).await;
        if !is_ready {
            unready += 1;
            continue;
        }
        if !world.is_settled(&layer).await {
            unsettled += 1;
            continue;
        }
        let far = &world.commits[1 + chance.below(world.commits.len() - 1)];
        for (commit, branch) in [(&world.commits[0], "topic/x"), (far, BRANCH)] {
            let wanted = Wanted { workspace: WORKSPACE, commit, branch };
            let [one, other] =
                [world.launch(std::slice::from_ref(&layer)).await, world.launch(std::slice::from_ref(&layer)).await];
            let all = reset(&other, wanted, "check-out").await.expect("it runs");
            if moved(&one, wanted).await.expect("it runs") {
                moves += 1;
                let [by_move, by_all] = [seen(&one).await, seen(&other).await];
                if by_move != by_all || !all.status.is_success() {
                    wrong.push(format!(
                        "{number} to {commit} {branch}:\n{setup}{all:?}\n{}",
                        difference(&by_move, &by_all)
                    ));
                }
            } else {
                refused.push(format!("{number} to {commit} {branch}: {setup}"));
            }
            for sandbox in [one, other] {
                world.sandboxes.destroy(sandbox.id()).await.expect("ended");
            }
        }
    }

    assert!(wrong.is_empty(), "{} of {moves}:\n{}", wrong.len(), wrong.join("\n\n"));
    let refused = refused.join("\n");
    assert!(
        unsettled <= 2 && moves >= 95,
        "{moves} moves, {unready} not ready, {unsettled} unsettled, refused:\n{refused}"
    );
}

fn difference(one: &str, other: &str) -> String {
    let only = |a: &str, b: &str, mark: char| -> Vec<String> {
        a.lines().filter(|line| !b.lines().any(|known| known == *line)).map(|line| format!("{mark}{line}")).collect()
    };
    [only(one, other, '+'), only(other, one, '-')].concat().join("\n")
}

#[tokio::test]
async fn a_branch_below_one_that_is_there_can_be_checked_out() {
    let world = World::new().await;
    let (layer, is_ready) = world.snapshot("cd /workspace/r; git branch topic").await;
    assert!(is_ready);

    for branch in ["carrel/fix", "topic/deep/fix"] {
        let wanted = Wanted { workspace: WORKSPACE, commit: &world.commits[2], branch };
        let [one, other] =
            [world.launch(std::slice::from_ref(&layer)).await, world.launch(std::slice::from_ref(&layer)).await];

        let is_moved = moved(&one, wanted).await.expect("it runs");
        let checked_out = reset(&other, wanted, "check-out").await.expect("it runs");

        assert!(is_moved && checked_out.status.is_success(), "{branch}: {checked_out:?}");
        for sandbox in [one, other] {
            let head = run(&sandbox, "cd /workspace/r; git symbolic-ref HEAD; git status --porcelain").await;
            assert_eq!(String::from_utf8_lossy(&head.output), format!("refs/heads/{branch}\n"));
            world.sandboxes.destroy(sandbox.id()).await.expect("ended");
        }
    }
}
