//! What happens while an environment is tried, in words for the one who looks on.

use carrel_domain::EventBody;
use carrel_domain::event::CommandEnd;

/// The words; nothing for what says nothing to people, or what they are told otherwise.
pub(super) fn of(body: &EventBody) -> Option<String> {
    let text = match body {
        EventBody::Progress { message, .. }
        | EventBody::Warning { message }
        | EventBody::SandboxRelaunched { message }
        | EventBody::LimitHit { message, .. } => message.clone(),
        EventBody::EnvironmentResolved { name, version, image, .. } => {
            format!("environment {name} version {version}, image {image}")
        }
        EventBody::SnapshotLookedUp { reason, .. } => reason.clone(),
        EventBody::SnapshotKept { reason, .. } => {
            format!("nothing of the prepared environment is kept: {}", reason.as_ref()?)
        }
        EventBody::NetworkDecided { host, port, allowed: false, reason, way_out, .. } => {
            let way_out = way_out.as_ref().map_or_else(String::new, |way_out| format!("; to allow it: {way_out}"));
            format!("network: {host}:{port} refused: {reason}{way_out}")
        }
        EventBody::CommandStarted { command, .. } => format!("$ {command}"),
        EventBody::CommandOutput { text, .. } => text.strip_suffix('\n').unwrap_or(text).to_owned(),
        EventBody::CommandEnded { end, duration_ms, .. } => {
            let how = match end {
                CommandEnd::Exited { code } => format!("exit code {code}"),
                CommandEnd::Signalled { signal } => format!("ended by signal {signal}"),
                CommandEnd::TimedOut => "stopped by its time limit".to_owned(),
                CommandEnd::Interrupted => "interrupted".to_owned(),
            };
            format!("{how} after {}.{} s", duration_ms / 1000, duration_ms % 1000 / 100)
        }
        // What agents do, and what is of no interest before there is one.
        _ => return None,
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_and_what_is_let_through_is_not() {
        let decided = |allowed| EventBody::NetworkDecided {
            host: "evil.example".to_owned(),
            port: 443,
            method: None,
            allowed,
            reason: "not on the list".to_owned(),
            way_out: None,
            count: 1,
        };

        assert_eq!(of(&decided(false)).as_deref(), Some("network: evil.example:443 refused: not on the list"));
        assert_eq!(of(&decided(true)), None);
    }
}
