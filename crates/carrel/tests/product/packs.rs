//! An environment that one worker has prepared serves the others: packed, in a bucket of a real S3 server.

use carrel_testkit::model::Reply;
use carrel_testkit::{Postgres, Repository, S3, World};

use crate::images::Registry;
use crate::workers::worker_with;
use crate::{FILES, attempt, of_type, says};

/// What no two runs of it write alike, in places where an overlay has to hide what the image has.
const SETUP: &str =
    "cat /proc/sys/kernel/random/uuid > /opt/prepared; rm /opt/here/tool; rm -r /etc/profile.d; mkdir /etc/profile.d";
const LOOK: &str =
    "cat /opt/prepared; [ -e /opt/here/tool ] || echo hidden; echo /etc/profile.d/*; stat -c %u:%a /opt/prepared";

struct Installation {
    postgres: Postgres,
    s3: S3,
    registry: Registry,
}

impl Installation {
    fn start() -> Self {
        Self { postgres: Postgres::start(), s3: S3::start(), registry: Registry::start() }
    }

    async fn worker(&self, name: &str) -> World {
        let (place, variables) = (self.s3.place(), self.s3.variables());
        let mut settings =
            vec![("CARREL_ARTIFACTS", place.as_str()), ("CARREL_PLAIN_REGISTRIES", self.registry.address.as_str())];
        settings.extend(variables.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        worker_with(&self.postgres, name, says([Reply::command(LOOK), Reply::message("Done.")]), &settings).await
    }

    async fn environment(&self, world: &World, name: &str, setup: &str) {
        let script = world.folder().join(format!("{name}.sh"));
        std::fs::write(&script, setup).expect("a file");
        let script = script.to_str().expect("text");
        let image = self.registry.image("tools:1");
        world.json(&["environment", "create", name, "--image", &image, "--setup-script", script]).await;
    }

    /// Waits until so many snapshots are as the condition says.
    async fn until(&self, count: &str, condition: &str) {
        let sql = format!("select count(*) from snapshot where {condition}");
        let asked = async {
            while self.postgres.query(&sql).as_deref() != Some(count) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), asked).await.expect("in time");
    }
}

/// Runs a task there: what it saw, and what was told of its environment.
async fn run(world: &World, environment: &str, repository: &Repository) -> (String, Vec<String>) {
    let id = world.create_with(repository, &["--environment", environment, "Look"]).await;
    let task = world.ended(&id).await;
    let events = world.events(&id).await;
    assert_eq!(attempt(&task)["state"], "ready", "{task:#}\n{events:#?}");
    let texts = |kind: &str, field: &str| -> Vec<String> {
        let told = of_type(&events, kind).into_iter();
        told.filter_map(|event| event["data"][field].as_str().map(str::to_owned)).collect()
    };
    let mut told = texts("snapshot.looked_up", "reason");
    told.extend(texts("attempt.warning", "message"));
    (texts("command.output", "text").concat(), told)
}

#[tokio::test]
async fn what_one_worker_has_prepared_another_takes_over_and_builds_itself_when_it_is_lost() {
    let installation = Installation::start();
    let mut one = installation.worker("one").await;
    let repository = one.repository("project", FILES);
    installation.environment(&one, "tools", SETUP).await;
    let (seen, told) = run(&one, "tools", &repository).await;
    installation.until("1", "packed_sha256 is not null").await;
    one.kill().await;

    let mut two = installation.worker("two").await;
    let (seen_by_two, told_by_two) = run(&two, "tools", &repository).await;
    let (again, told_again) = run(&two, "tools", &repository).await;
    two.kill().await;
    let packed = installation.postgres.query("select distinct packed_sha256 from snapshot").expect("one");
    std::fs::remove_file(installation.s3.file(&packed)).expect("it is there");
    let three = installation.worker("three").await;
    let (seen_by_three, told_by_three) = run(&three, "tools", &repository).await;

    assert!(seen.ends_with("0:644\n") && seen.contains("hidden\n/etc/profile.d/*\n"), "{seen}");
    assert!(told[0].starts_with("preparing the environment: "), "{told:?}");
    assert_eq!(seen_by_two, seen, "with what is hidden in it, and the owners");
    assert_eq!(told_by_two.len(), 1, "{told_by_two:?}");
    assert!(told_by_two[0].starts_with("reusing the environment as another worker prepared it "), "{told_by_two:?}");
    assert_eq!(again, seen);
    assert!(told_again[0].starts_with("reusing the environment as it was prepared "), "{told_again:?}");
    assert_ne!(seen_by_three, seen, "it was prepared anew");
    let warned = told_by_three.iter().any(|text| text.contains("could not be brought here") && text.contains(&packed));
    assert!(warned, "{told_by_three:?}");
}

#[tokio::test]
async fn an_environment_with_the_authority_of_its_worker_in_it_stays_there() {
    let installation = Installation::start();
    let one = installation.worker("one").await;
    let repository = one.repository("project", FILES);
    let copies = "mkdir -p /opt/deep/er; cp /usr/local/share/ca-certificates/carrel.crt /opt/deep/er/trusted";
    installation.environment(&one, "trusting", copies).await;
    let id = one.create_with(&repository, &["--environment", "trusting", "Look"]).await;
    let task = one.ended(&id).await;

    installation.until("1", "pack_key is null").await;

    assert_eq!(attempt(&task)["state"], "ready", "{task:#}");
    assert_eq!(installation.postgres.query("select count(*) from snapshot").as_deref(), Some("1"));
}
