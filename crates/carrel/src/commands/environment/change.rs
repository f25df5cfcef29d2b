//! From flags to the change they ask for, with what has to be read for it: files, standard input, the terminal.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use carrel_wire::{EditEnvironment, LimitsChange, NetworkChange, SecretChange, SecretKind, SecretText, Setup};

use crate::cli::environment::{
    ContentArguments, LimitArguments, NetworkSecretArgument, Removals, SecretArgument, Source, Unset,
};
use crate::exit::Failure;

/// The change that the flags ask for; repositories are not part of it. With removals it is an edit.
pub(super) fn of(content: ContentArguments, removals: Option<Removals>) -> Result<EditEnvironment, Failure> {
    let mut input = Input::default();
    let removals = removals.unwrap_or_else(none);
    let mut change = EditEnvironment {
        image: content.image.map(Some),
        setup: setup(&mut input, content.setup_script.as_deref(), content.no_setup, content.automatic_setup)?.map(Some),
        maintenance_script: content.maintenance_script.map(|file| input.file(&file)).transpose()?.map(Some),
        variables_text: content.variables_file.map(|file| input.file(&file)).transpose()?,
        setup_secrets_text: content.setup_secrets_file.map(|file| input.file(&file)).transpose()?.map(SecretText),
        limits: limits(content.limits).map(Some),
        snapshot_life_s: content.snapshot_life.map(Some),
        ..EditEnvironment::default()
    };
    let set = content.variable.into_iter().map(|(name, value)| (name, Some(value)));
    let mut variables = BTreeMap::new();
    for (name, value) in set.chain(removals.remove_variable.into_iter().map(|name| (name, None))) {
        put_once(&mut variables, "the variable", name, value)?;
    }
    change.variables = (!variables.is_empty()).then_some(Some(variables));
    change.secrets = secrets(&mut input, content.setup_secret, content.network_secret, removals.remove_secret)?;
    let network = content.network;
    change.agent_network = policy(NetworkChange {
        internet: network.internet.map(|internet| Some(internet.into())),
        methods: network.methods.map(|methods| Some(methods.into())),
        domains_add: network.allow_domain,
        domains_remove: removals.remove_domain,
        domains: None,
    });
    change.setup_network = policy(NetworkChange {
        internet: network.setup_internet.map(|internet| Some(internet.into())),
        methods: network.setup_methods.map(|methods| Some(methods.into())),
        domains_add: network.setup_allow_domain,
        domains_remove: removals.remove_setup_domain,
        domains: None,
    });
    for what in removals.unset {
        unset(&mut change, what)?;
    }
    Ok(change)
}

const fn none() -> Removals {
    Removals {
        clear_repositories: false,
        remove_variable: Vec::new(),
        remove_secret: Vec::new(),
        remove_domain: Vec::new(),
        remove_setup_domain: Vec::new(),
        unset: Vec::new(),
    }
}

fn unset(change: &mut EditEnvironment, what: Unset) -> Result<(), Failure> {
    fn null<T>(field: &mut Option<Option<T>>, flag: &str) -> Result<(), Failure> {
        if matches!(field, Some(Some(_))) {
            return Err(Failure::usage(format!("--unset {flag} takes away what another flag sets; give one of them")));
        }
        *field = Some(None);
        Ok(())
    }
    match what {
        Unset::Image => null(&mut change.image, "image"),
        Unset::Setup => null(&mut change.setup, "setup"),
        Unset::MaintenanceScript => null(&mut change.maintenance_script, "maintenance-script"),
        Unset::Limits => null(&mut change.limits, "limits"),
        Unset::SnapshotLife => null(&mut change.snapshot_life_s, "snapshot-life"),
    }
}

fn setup(input: &mut Input, script: Option<&Path>, nothing: bool, automatic: bool) -> Result<Option<Setup>, Failure> {
    match script {
        Some(file) => Ok(Some(Setup::Script { script: input.file(file)? })),
        None if nothing => Ok(Some(Setup::Nothing {})),
        None if automatic => Ok(Some(Setup::Automatic {})),
        None => Ok(None),
    }
}

type SecretChanges = BTreeMap<String, Option<SecretChange>>;

fn secrets(
    input: &mut Input,
    setup: Vec<SecretArgument>,
    network: Vec<NetworkSecretArgument>,
    removed: Vec<String>,
) -> Result<Option<Option<SecretChanges>>, Failure> {
    let mut all = SecretChanges::new();
    for name in removed {
        put_once(&mut all, "the secret", name, None)?;
    }
    for SecretArgument { name, source } in setup {
        let value = Some(input.value(&name, source)?);
        let change = SecretChange { kind: Some(SecretKind::Setup), value, hosts: None };
        put_once(&mut all, "the secret", name, Some(change))?;
    }
    for NetworkSecretArgument { secret: SecretArgument { name, source }, hosts } in network {
        if hosts.is_empty() {
            return Err(Failure::usage(format!(
                "the network secret {} has no host; write NAME=VALUE@HOST",
                crate::output::safe(&name)
            )));
        }
        let value = Some(input.value(&name, source)?);
        let change = SecretChange { kind: Some(SecretKind::Network), value, hosts: Some(hosts) };
        put_once(&mut all, "the secret", name, Some(change))?;
    }
    Ok((!all.is_empty()).then_some(Some(all)))
}

/// Takes what one flag says, unless another has said something of the same name: one of the two would be lost.
fn put_once<T>(all: &mut BTreeMap<String, T>, what: &str, name: String, said: T) -> Result<(), Failure> {
    if all.contains_key(&name) {
        return Err(Failure::usage(format!(
            "{what} {} is given twice, or given and removed; say once what becomes of it",
            crate::output::safe(&name)
        )));
    }
    all.insert(name, said);
    Ok(())
}

fn policy(change: NetworkChange) -> Option<Option<NetworkChange>> {
    (change != NetworkChange::default()).then_some(Some(change))
}

fn limits(arguments: LimitArguments) -> Option<LimitsChange> {
    let change = LimitsChange {
        cpu_millis: arguments.cpus.map(Some),
        memory_bytes: arguments.memory.map(Some),
        processes: arguments.processes.map(Some),
        disk_bytes: arguments.disk.map(Some),
        wall_clock_s: arguments.wall_clock.map(Some),
        setup_s: arguments.setup_limit.map(Some),
        output_bytes: arguments.output.map(Some),
    };
    (change != LimitsChange::default()).then_some(change)
}

/// What is read for a command. Standard input can be read once.
#[derive(Default)]
struct Input {
    is_spent: bool,
}

impl Input {
    /// The text of a file; `-` is standard input.
    fn file(&mut self, file: &Path) -> Result<String, Failure> {
        if file == Path::new("-") {
            return self.standard_input();
        }
        std::fs::read_to_string(file).map_err(|error| {
            Failure::usage(format!("cannot read {}: {error}", crate::output::safe(&file.to_string_lossy())))
        })
    }

    fn value(&mut self, name: &str, source: Source) -> Result<SecretText, Failure> {
        let value = match source {
            Source::Given(value) => return Ok(SecretText(value.expose().to_owned())),
            Source::File(file) => self.file(&file)?,
            Source::Asked if std::io::stdin().is_terminal() => {
                let question = format!("value of {}: ", crate::output::safe(name));
                rpassword::prompt_password(question)
                    .map_err(|error| Failure::usage(format!("cannot read the value from the terminal: {error}")))?
            }
            Source::Asked => self.standard_input()?,
        };
        // The end of the last line is the file's, not the value's.
        let value = value.strip_suffix('\n').map_or(value.as_str(), |value| value.strip_suffix('\r').unwrap_or(value));
        Ok(SecretText(value.to_owned()))
    }

    fn standard_input(&mut self) -> Result<String, Failure> {
        if std::mem::replace(&mut self.is_spent, true) {
            return Err(Failure::usage(
                "only one thing can be read from standard input; have the others read from files (NAME=@FILE)",
            ));
        }
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Failure::usage(format!("cannot read standard input: {error}")))?;
        Ok(text)
    }
}
