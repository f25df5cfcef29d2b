//! scratch
use crate::world::World;
use carrel_testkit::model::{Reply, Script};
use carrel_domain::EventBody;
#[tokio::test(flavor = "multi_thread")]
async fn zz_aimock() {
    let mut world = World::new(Script::new([Reply::message("x")])).await;
    world.endpoint.base_url = "http://127.0.0.1:18931/v1".parse().expect("u");
    world.endpoint.retries = 8;
    let (mut ok, mut reasons) = (0, std::collections::BTreeMap::new());
    for n in 0..15 {
        let mut task = world.task("Go.");
        task.cache_key = format!("k{n}");
        match world.run_task(task).await { Ok(f) => { assert_eq!(f.answer, "Done."); ok += 1; } Err(e) => eprintln!("ZZ ERR {e}") }
    }
    for body in world.events() { if let EventBody::ModelRetrying { reason, .. } = body { *reasons.entry(reason).or_insert(0) += 1; } }
    eprintln!("ZZ ok {ok} {reasons:#?}");
}
