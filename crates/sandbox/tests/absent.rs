//! A process that makes no sandboxes: it needs no launcher and nothing of the kernel, and refuses what it cannot do.

use carrel_domain::SandboxId;
use carrel_sandbox::{Launcher, Limits, LocalOptions, SandboxError, SandboxSpec, Sandboxes};
use uuid::Uuid;

#[tokio::test]
async fn where_none_are_made_there_are_none_and_launching_one_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = LocalOptions {
        folder: folder.path().join("sandboxes"),
        private_paths: Vec::new(),
        launcher: Launcher::new("/nonexistent", []),
        limits: Limits::default(),
    };
    let sandboxes = Sandboxes::absent(options).expect("nothing is started");
    let id = SandboxId::from_uuid(Uuid::now_v7());

    let launched = sandboxes.launch(SandboxSpec::new(id)).await;

    let refused = matches!(launched, Err(SandboxError::Launch(reason)) if reason == "this process makes no sandboxes");
    assert!(refused);
    assert_eq!(sandboxes.list().await.expect("the folder can be read"), []);
    assert!(sandboxes.lent_ids().is_none());
}
