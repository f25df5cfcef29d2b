//! How a person raises a limit that an attempt ran into: by the flag of its environment, or where the repository lowered it.

use std::time::Duration;

use carrel_domain::{Environment, EventBody, ResourceLimits, environment_file};

/// The limit that counts in an attempt, and the environment it may come from.
#[derive(Clone, Copy)]
pub(crate) struct Raise<'a> {
    pub(crate) environment: &'a Environment,
    /// What counts: never more than the environment says.
    pub(crate) limits: &'a ResourceLimits,
}

impl Raise<'_> {
    /// The way out of a limit by the name that events have for it; nothing where there is none.
    pub(crate) fn way_out(self, limit: &str) -> Option<String> {
        let (said, counts) = (&self.environment.spec.limits, self.limits);
        let (flag, key, is_lowered) = match limit {
            "cpu" => ("--cpus N", "cpu_millis", counts.cpu_millis != said.cpu_millis),
            "memory" => ("--memory SIZE", "memory_bytes", counts.memory_bytes != said.memory_bytes),
            "processes" => ("--processes N", "processes", counts.processes != said.processes),
            // Without a limit it was the machine's disk.
            "disk" if counts.disk_bytes.is_none() => return None,
            "disk" => ("--disk SIZE", "disk_bytes", counts.disk_bytes != said.disk_bytes),
            "wall clock" => ("--wall-clock DURATION", "wall_clock_s", counts.wall_clock_s != said.wall_clock_s),
            "setup" => ("--setup-limit DURATION", "setup_s", counts.setup_s != said.setup_s),
            "output" => ("--output SIZE", "output_bytes", counts.output_bytes != said.output_bytes),
            _ => return None,
        };
        Some(if is_lowered {
            format!("the repository's `{}` lowers it with limits.{key}: raise it there", environment_file::PATH)
        } else {
            format!("to raise it: carrel environment edit {} {flag}", self.environment.name)
        })
    }

    /// The message with the way out behind it.
    pub(crate) fn with_way_out(self, limit: &str, message: &str) -> String {
        self.way_out(limit).map_or_else(|| message.to_owned(), |way_out| format!("{message}; {way_out}"))
    }

    /// The same for an event that tells of a limit.
    pub(crate) fn told(self, body: EventBody) -> EventBody {
        match body {
            EventBody::LimitHit { limit, message } => {
                let message = self.with_way_out(&limit, &message);
                EventBody::LimitHit { limit, message }
            }
            other => other,
        }
    }

    /// The way out of an attempt's time, of which the installation gives no more than it has.
    pub(crate) fn of_wall_clock(self, installation: Duration) -> String {
        let own = self.limits.wall_clock_s.map(|seconds| Duration::from_secs(seconds.into()));
        if own.is_some_and(|own| own < installation)
            && let Some(way_out) = self.way_out("wall clock")
        {
            return way_out;
        }
        format!(
            "the service gives no attempt more than {} s: an administrator raises it with CARREL_MAX_ATTEMPT_SECONDS",
            installation.as_secs()
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use carrel_domain::{EnvironmentId, EnvironmentSpec, OrganizationId};

    use super::*;

    /// The environment `api` with the defaults.
    pub(crate) fn environment() -> Environment {
        Environment {
            id: EnvironmentId::from_uuid(uuid::Uuid::nil()),
            organization: OrganizationId::from_uuid(uuid::Uuid::nil()),
            name: "api".parse().expect("a name"),
            version: 1,
            spec: EnvironmentSpec::default(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_limit_of_the_environment_is_raised_by_its_flag() {
        let environment = environment();
        let raise = Raise { environment: &environment, limits: &environment.spec.limits };

        for (limit, flag) in [
            ("cpu", "--cpus N"),
            ("memory", "--memory SIZE"),
            ("processes", "--processes N"),
            ("disk", "--disk SIZE"),
            ("wall clock", "--wall-clock DURATION"),
            ("setup", "--setup-limit DURATION"),
            ("output", "--output SIZE"),
        ] {
            let expected = format!("to raise it: carrel environment edit api {flag}");
            assert_eq!(raise.way_out(limit), Some(expected), "{limit}");
        }
        assert_eq!(raise.way_out("patience"), None);
    }

    #[test]
    fn a_limit_that_the_repository_lowered_is_raised_there() {
        let environment = environment();
        let limits = ResourceLimits { memory_bytes: Some(1 << 30), disk_bytes: None, ..environment.spec.limits };
        let raise = Raise { environment: &environment, limits: &limits };

        let said = raise.with_way_out("memory", "out of memory");

        assert!(
            said.starts_with("out of memory; the repository's `.carrel/environment.toml` lowers it with"),
            "{said}"
        );
        assert!(said.contains("limits.memory_bytes"), "{said}");
        assert_eq!(raise.way_out("disk"), None, "the machine's disk has no flag");
    }

    #[test]
    fn the_time_of_an_attempt_is_raised_where_it_is_shortest() {
        let environment = environment();
        let of = |seconds| ResourceLimits { wall_clock_s: seconds, ..environment.spec.limits };
        let hour = Duration::from_secs(3600);
        let said = |limits: &ResourceLimits| Raise { environment: &environment, limits }.of_wall_clock(hour);

        assert!(said(&of(None)).contains("CARREL_MAX_ATTEMPT_SECONDS"));
        assert!(said(&of(Some(7200))).contains("CARREL_MAX_ATTEMPT_SECONDS"));
        assert!(
            said(&of(Some(60))).contains("lowers it with limits.wall_clock_s"),
            "the environment says no such limit"
        );
    }
}
