//! The command line as it is written. What it means is checked by the commands and, above all, by the service.

pub(crate) mod environment;
pub(crate) mod installation;
pub(crate) mod limits;
pub(crate) mod sharing;

use std::io;
use std::path::PathBuf;

use carrel_domain::task::MAX_ATTEMPTS;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use uuid::Uuid;

use crate::exit::Failure;
use crate::output;
use environment::EnvironmentCommand;
use installation::InstallationCommand;
use limits::{BudgetCommand, LimitArguments};
use sharing::{PriorityArgument, RoleArgument};

const AFTER_HELP: &str = "\
Exit codes:
  0    it worked
  1    the work itself failed: an attempt or a publication failed or was cancelled, a patch did not apply cleanly
  2    the command line or the settings make no sense
  3    the service refused the request, and said why
  4    the service cannot be reached
  5    the service, or this program, has a problem

Finding the service:
  On the same machine by CARREL_DATA (default ~/.local/share/carrel) and CARREL_LISTEN (default 127.0.0.1:7070).
  Any other by CARREL_URL and CARREL_TOKEN.";

/// A coding agent that works in a cloud its user owns.
#[derive(Debug, Parser)]
#[command(name = "carrel", version, after_help = AFTER_HELP, arg_required_else_help = true, max_term_width = 110)]
pub(crate) struct Cli {
    /// Print results, and errors on standard error, as JSON instead of text for people
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the service: API, web app and workers in one process, or a part of them
    #[command(after_help = SERVE_HELP)]
    Serve {
        /// Start although values of secrets do not open for want of their key; give them anew with `environment edit`
        #[arg(long)]
        accept_lost_secrets: bool,
        /// What this process does [default: CARREL_ROLE, or all]
        #[arg(long, value_enum)]
        role: Option<RoleArgument>,
    },
    /// Run a sample task with a recorded model; everything but the model is real
    Demo,
    /// List the models tasks may be given to
    Models,
    /// List the agents tasks may be given to
    Agents,
    /// Delegate tasks, follow them, and take their results
    #[command(subcommand)]
    Task(TaskCommand),
    /// Say how sandboxes are made ready, and what they may reach
    #[command(subcommand)]
    Environment(EnvironmentCommand),
    /// Say what may be spent in a month and run at once, and see what was
    #[command(subcommand)]
    Budget(BudgetCommand),
    /// List the processes of the installation: what each does, can hold and has
    Workers,
    /// Say what this machine offers sandboxes, what is missing, and what to do about it
    #[command(after_help = DOCTOR_HELP)]
    Doctor,
    #[command(flatten)]
    Installation(InstallationCommand),
    /// Print a fresh one-time link that signs a browser in
    OwnerLink,
    /// Print the OpenAPI document of the HTTP API
    #[command(hide = true)]
    Openapi,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the man page
    Man,
}

const DOCTOR_HELP: &str = "\
Makes a sandbox of its own and takes it away again; a running service is not touched. Run it as the user that runs the
service, with the same variables.

Exit codes:
  0    sandboxes can be made here, whatever else is missing; or the role is `api`, which makes none
  1    they cannot";

const STEER_HELP: &str = "\
The agent is told before it asks its model again: what it waits for is cut short, a request under way is not. Sent before the
agent has begun, it is kept until then. The log says when it was delivered. Once the agent has given its answer nothing is
taken any more: follow up on the task instead.";

const RETRY_HELP: &str = "\
A retry belongs to the same turn and gets the next number. It starts from the same commit, with the same model and the same
version of the environment; what the agent was not told before the end, it is told now. What it may use counts anew, and is
what the one before was given, as far as no other --max-… is.";

const SHELL_HELP: &str = "\
The shell runs in the folder of the repository, as the agent's commands do, and on the very same files: the agent sees
what you change. The task's log says who opened and closed a terminal, not what was typed. When the shell ends, or the
connection does, everything it started is ended.

What programs in there write reaches your terminal as it is, escape sequences included: that is what a terminal is for,
and what is in there may be hostile. When standard input is no terminal, its content is run as commands, without prompt
or echo: echo 'npm test' | carrel task shell ID

Exit codes:
  0 to 255  the shell's own; 128 and the signal's number when a signal ended it, or ended this command
  1         also when the terminal was closed by the service, which says why
  2 to 5    also as of every command, with an error that says why";

const SERVE_HELP: &str = "\
Settings (environment variables):
  CARREL_DATA             folder of all data [default: ~/.local/share/carrel]
  DATABASE_URL            PostgreSQL database of tasks and events in place of the one in the data folder:
                          postgres://user:password@host/name [default: SQLite]
  CARREL_ARTIFACTS        where patches, attachments and other files are kept, for all workers on the same database:
                          file:///shared/folder, or s3://bucket/prefix with AWS_ACCESS_KEY_ID,
                          AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL [default: the data folder]
  CARREL_ARTIFACT_CACHE_BYTES
                          how much of a bucket is kept in the data folder, too [default: 2000000000]
  CARREL_ROLE             `all`, `api`: serves people and programs and leaves the work to others, or `worker`: works, and
                          serves no API. Any number of each on one PostgreSQL [default: all]
  CARREL_WORKER_NAME      what others on the same database know this worker by [default: the machine's name]
  CARREL_WORKER_GONE_SECONDS
                          how long a worker may be silent before others make its attempts again [default: 60]
  CARREL_WORKER_RETURN_SECONDS
                          how long others wait for this worker when it was stopped, for an upgrade of its machine, say
                          [default: as long as a silent one]
  CARREL_LISTEN           address and port to listen on [default: 127.0.0.1:7070]
  CARREL_PUBLIC_URL       address people use, if it is another
  CARREL_MODEL_URL        model server [OPENAI_BASE_URL, then https://api.openai.com/v1]
  CARREL_MODEL_KEY        its key [OPENAI_API_KEY, or ANTHROPIC_API_KEY with `messages`, which alone is enough]
  CARREL_MODEL_PROTOCOL   what it speaks: `responses`, `chat_completions` or `messages` [default: responses]
  CARREL_MODEL            name of the model [default: gpt-5-codex, or claude-sonnet-5-5 with `messages`]
  CARREL_MODEL_RETRIES    how often a request that did not work is made again [default: 5]
  CARREL_MODELS_FILE      file of further models and providers, with prices and abilities: docs/models.md
  CARREL_AGENTS_FILE      file of agents that run in the sandbox in place of Carrel's own: docs/agents.md
  CARREL_GIT_CREDENTIALS  file in the format of git-credential-store [default: git-credentials in the data folder]
  CARREL_DIFF_HOSTS       forges that diffs named in prompts are fetched from, beside the repository's own: `host` or
                          `host:port`, separated by commas [default: github.com,gitlab.com,codeberg.org,gitea.com]
  CARREL_GIT_AUTHOR       author of commits [default: Carrel <carrel@localhost>]
  CARREL_SECRETS_KEY      key that values of secrets are sealed under: 32 bytes in base64 or hexadecimal
  CARREL_SECRETS_KEY_FILE file of such keys, one a line; the first seals, all open [default: secrets.key in the data
                          folder, made at the first start]. To rotate, put a new key first and start again
  CARREL_PRIVATE_HOSTS    hosts whose private addresses sandboxes may reach where an environment allows the host:
                          `name` or `name:port`, separated by commas
  CARREL_CA_FILE          certificate authorities in PEM, beside the system's, for servers and registries
  CARREL_OPEN_TLS         `needed`: only where a rule must see inside, `always`: everywhere [default: needed]
  CARREL_COMMON_DOMAINS_FILE, CARREL_PACKAGES_FILE
                          files in place of the presets `common` and `packages` that come with the program
  CARREL_PLAIN_REGISTRIES registries of images spoken to without TLS, `host:port`, separated by commas
  CARREL_REGISTRY_LOGINS  file of logins to registries, in the format of Docker's config.json
  CARREL_IMAGE_FOLDERS    folders of this machine that, or what lies in them, environments may take for an image, separated
                          by colons: whatever is in them can be read in sandboxes [default: none]
  CARREL_MAX_LAYER_BYTES  what prepared environments and the files of attempts may take [default: 50000000000]
  CARREL_PRIVATE_PATHS    further paths to hide from sandboxes, separated by colons
  CARREL_MAX_JOBS         attempts this process works on at once [default: 32]
  CARREL_ATTEMPTS_PER_PERSON, CARREL_ATTEMPTS_PER_ORGANIZATION
                          attempts of one at once, whichever processes work on them, where `carrel budget` says nothing
                          else; the same for all processes [default: any number]
  CARREL_MAX_ATTEMPT_SECONDS
                          how long an attempt may take, whatever its environment says [default: 7200]
  CARREL_MAX_STEPS        answers of the model in one attempt, summaries not counted [default: 200]
  CARREL_MAX_TOKENS       tokens of one attempt, sent and produced ones together [default: any number]
  CARREL_MAX_COST_USD     what one attempt may cost, where prices are configured: `2.50` [default: any amount]
  CARREL_MAX_PATCH_BYTES  longest patch that is kept, 268435456 at most [default: 100000000]
  CARREL_LOG              what is logged, such as `info` or `carrel_control=debug` [default: info]
  CARREL_LOG_FORMAT       `text` for people, `json` for one object a line [default: text]
  CARREL_METRICS_LISTEN   further address and port for `/metrics`, `/healthz` and `/readyz`, which want no token there:
                          docs/operations.md [default: none]
  OTEL_EXPORTER_OTLP_ENDPOINT
                          collector that traces are sent to by OTLP over HTTP [default: none are made]";

#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Delegate a task
    Create(CreateArguments),
    /// List tasks, newest first
    List {
        /// How many: 1 to 100
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
        limit: u32,
    },
    /// Show a task with its turns, attempts and results
    Show {
        /// The task
        id: Uuid,
    },
    /// Follow a task's log live, until it has ended
    Watch {
        /// The task
        id: Uuid,
        /// Only events behind this sequence number
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
        after: i64,
    },
    /// Print the patch of an attempt
    Diff {
        /// The task
        id: Uuid,
        #[command(flatten)]
        which: Which,
    },
    /// List the files that an attempt's agent attached, or save them
    Artifacts {
        /// The task
        id: Uuid,
        /// Save them all into this folder, which is made if it is not there; files of the same name are not replaced
        #[arg(long, value_name = "FOLDER")]
        output: Option<PathBuf>,
        #[command(flatten)]
        which: Which,
    },
    /// Apply the patch of an attempt to the current checkout, merging three ways
    Apply {
        /// The task
        id: Uuid,
        #[command(flatten)]
        which: Which,
    },
    /// Go on with a task from its latest files
    FollowUp(FollowUpArguments),
    /// Compare the attempts of a turn: what they changed, ran and took, and which to look at first
    Compare {
        /// The task
        id: Uuid,
        /// The turn's number [default: the last]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        turn: Option<u32>,
    },
    /// Say something to the attempts of a task that are under way
    #[command(after_help = STEER_HELP)]
    Steer {
        /// The task
        id: Uuid,
        /// What the agent is to know; `-` reads it from standard input
        text: String,
        /// Only this attempt of the last turn
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        attempt: Option<u32>,
    },
    /// Make the attempts of a task that failed or were stopped again
    #[command(after_help = RETRY_HELP)]
    Retry(RetryArguments),
    /// Open a shell in an attempt that runs
    #[command(after_help = SHELL_HELP)]
    Shell {
        /// The task
        id: Uuid,
        /// The attempt's number within the last turn [default: the first that runs]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        attempt: Option<u32>,
    },
    /// Stop the attempts of a task
    Cancel {
        /// The task
        id: Uuid,
        /// Only this attempt of the last turn
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        attempt: Option<u32>,
    },
    /// Push the patch of an attempt as a branch of the repository it came from
    Push {
        /// The task
        id: Uuid,
        /// The branch
        #[arg(long, allow_hyphen_values = true)]
        branch: String,
        /// The commit's message [default: the task's title]
        #[arg(long)]
        message: Option<String>,
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// A path or a URL that git can fetch from
    #[arg(long, default_value = ".")]
    pub(crate) repository: String,
    /// The branch to start from [default: the repository's default branch]
    #[arg(long, conflicts_with = "commit", allow_hyphen_values = true)]
    pub(crate) branch: Option<String>,
    /// The commit to start from
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) commit: Option<String>,
    /// Ask a question, or change the code
    #[arg(long, value_enum, default_value_t = ModeArgument::Code)]
    pub(crate) mode: ModeArgument,
    /// How many attempts are made side by side: 1 to 4
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MAX_ATTEMPTS.into()))]
    pub(crate) attempts: u32,
    /// The environment its attempts run in [default: default]
    #[arg(long)]
    pub(crate) environment: Option<String>,
    /// The model's name, one of `carrel models` [default: the service's]
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// How hard the model is asked to think, one of its efforts [default: the model's]
    #[arg(long)]
    pub(crate) effort: Option<String>,
    /// The agent's name, one of `carrel agents` [default: carrel]
    #[arg(long)]
    pub(crate) agent: Option<String>,
    /// Which of your own tasks go before it: a step is worth a day of waiting
    #[arg(long, value_enum, default_value_t = PriorityArgument::Normal)]
    pub(crate) priority: PriorityArgument,
    #[command(flatten)]
    pub(crate) limits: LimitArguments,
    #[command(flatten)]
    pub(crate) files: FileArguments,
    #[command(flatten)]
    pub(crate) local_changes: LocalChangesArguments,
    /// Follow the log until the task has ended
    #[arg(long)]
    pub(crate) watch: bool,
    /// What is to be done; `-` reads it from standard input
    pub(crate) prompt: String,
}

/// Changes that were not pushed, and that a task starts from.
#[derive(Debug, Args)]
pub(crate) struct LocalChangesArguments {
    /// Start from what this checkout has beyond its remote: changes, new files that git does not ignore, commits that are
    /// not pushed; 5 MB at most
    #[arg(long, conflicts_with_all = ["branch", "commit"])]
    pub(crate) with_local_changes: bool,
    /// Start from the commit with this patch on it, made by `git diff --binary --full-index`; `-` reads standard input
    #[arg(long, value_name = "FILE", conflicts_with = "with_local_changes", allow_hyphen_values = true)]
    pub(crate) local_changes: Option<PathBuf>,
}

/// Files that go along with a prompt.
#[derive(Debug, Args)]
pub(crate) struct FileArguments {
    /// A file for the agent, which finds it in /attachments; repeatable, 20 at most, 20 MiB each
    #[arg(long, value_name = "FILE")]
    pub(crate) attach: Vec<PathBuf>,
    /// An image (PNG, JPEG, GIF or WebP) for the agent, shown to models that see; repeatable
    #[arg(long, value_name = "FILE")]
    pub(crate) image: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct FollowUpArguments {
    /// The task
    pub(crate) id: Uuid,
    /// What is to be done; `-` reads it from standard input
    pub(crate) prompt: String,
    /// Ask a question, or change the code [default: as before]
    #[arg(long, value_enum)]
    pub(crate) mode: Option<ModeArgument>,
    /// How many attempts are made side by side: 1 to 4
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MAX_ATTEMPTS.into()))]
    pub(crate) attempts: u32,
    /// The attempt of the last turn to go on from [default: the one that `task compare` suggests, or
    /// else the first with a result]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) from_attempt: Option<u32>,
    /// The model's name, one of `carrel models` [default: as before]
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// How hard the model is asked to think [default: as before]
    #[arg(long)]
    pub(crate) effort: Option<String>,
    /// The agent's name, one of `carrel agents` [default: as before]
    #[arg(long)]
    pub(crate) agent: Option<String>,
    #[command(flatten)]
    pub(crate) limits: LimitArguments,
    #[command(flatten)]
    pub(crate) files: FileArguments,
    /// Follow the log until the task has ended
    #[arg(long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RetryArguments {
    /// The task
    pub(crate) id: Uuid,
    /// Only this attempt of the last turn
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) attempt: Option<u32>,
    /// Go on from the conversation and the files of the attempt, as far as they are kept
    #[arg(long, conflicts_with = "latest_environment")]
    pub(crate) resume: bool,
    /// Take the environment as it is now, instead of the version the attempt was pinned to
    #[arg(long)]
    pub(crate) latest_environment: bool,
    #[command(flatten)]
    pub(crate) limits: LimitArguments,
    /// Follow the log until the task has ended
    #[arg(long)]
    pub(crate) watch: bool,
}

/// Which attempt of a task is meant.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Which {
    /// The attempt's number within its turn [default: the first that is ready]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) attempt: Option<u32>,
    /// The turn's number [default: the last one]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) turn: Option<u32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ModeArgument {
    Ask,
    Code,
}

impl From<ModeArgument> for carrel_wire::Mode {
    fn from(mode: ModeArgument) -> Self {
        match mode {
            ModeArgument::Ask => Self::Ask,
            ModeArgument::Code => Self::Code,
        }
    }
}

pub(crate) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "carrel", &mut script);
    output::raw(&script)
}

pub(crate) fn man_page() -> Result<(), Failure> {
    // One page for the program and every command, in the order of the help.
    fn render(command: &clap::Command, out: &mut Vec<u8>) -> io::Result<()> {
        clap_mangen::Man::new(command.clone()).render(out)?;
        command.get_subcommands().filter(|sub| !sub.is_hide_set()).try_for_each(|sub| render(sub, out))
    }
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut page = Vec::new();
    render(&command, &mut page).map_err(|error| Failure::service(format!("cannot make the man page: {error}")))?;
    output::raw(&page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }
}
