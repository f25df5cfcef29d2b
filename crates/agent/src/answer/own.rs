//! What an agent made itself in a turn that only asks: none of that is kept, so a person who looks up what is cited does not
//! find it. When the turn began is told by a file outside the repository, which a resumption finds where it was.

use std::collections::BTreeSet;
use std::time::Duration;

use carrel_domain::CommitOid;
use carrel_sandbox::{Command, Output, Sandbox};

use crate::tools::Tools;

/// As old as the turn.
const MARK: &str = "/tmp/.carrel/turn";

/// How long git may take, and how much it may say.
const TIMEOUT: Duration = Duration::from_secs(5);
const OUTPUT_BYTES: usize = 256 << 10;

/// Of the files that are its arguments those that are younger than the turn and not as in the base commit.
const SCRIPT: &str = r#"
[ -e "$1" ] || exit 0
mark=$1 base=$2; shift 2
for file; do
    [ "$file" -nt "$mark" ] || continue
    git cat-file -e "$base:$file" 2>/dev/null && git -c core.fsmonitor=false diff --quiet "$base" -- "$file" && continue
    printf '%s\0' "$file"
done
"#;

/// Notes that the turn begins now. Where that cannot be, nothing counts as the agent's own.
pub(crate) async fn note_the_beginning(sandbox: &Sandbox) {
    if let Err(error) = sandbox.write_file(MARK, b"", None).await {
        tracing::warn!(sandbox = %sandbox.id(), %error, "the beginning of a turn could not be noted");
    }
}

/// Of these paths in the repository those that the agent made or changed in this turn; none where nobody can say.
pub(super) async fn among(paths: Vec<String>, base: &CommitOid, tools: &Tools) -> BTreeSet<String> {
    if paths.is_empty() {
        return BTreeSet::new();
    }
    let fixed = ["bash", "-c", SCRIPT, "bash", MARK, base.as_str()].map(str::to_owned);
    // Another one each time: a command that is known is not run again.
    let id = format!("cited-files-{}", jiff::Timestamp::now().as_nanosecond());
    let command = Command::new(id, fixed.into_iter().chain(paths))
        .directory(tools.workspace())
        .time_limit(TIMEOUT)
        .output(Output::Kept { limit_bytes: OUTPUT_BYTES });
    match tools.sandbox().run(command).await {
        Ok(listed) if listed.status.is_success() => {
            String::from_utf8_lossy(&listed.output).split_terminator('\0').map(str::to_owned).collect()
        }
        Ok(_) => BTreeSet::new(),
        Err(error) => {
            tracing::warn!(sandbox = %tools.sandbox().id(), %error, "git could not be asked about cited files");
            BTreeSet::new()
        }
    }
}
