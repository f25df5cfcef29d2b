//! Serves a script of the model until its standard input ends, for programs that are not ours:
//! `cargo run -p carrel-testkit --example scripted-model -- script.json`. Prints the base URL, and in the end
//! the bodies of all requests.

use std::io::{Read, Write};

use carrel_testkit::model::{Script, ScriptedModel};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("give the path of a script")?;
    let model = ScriptedModel::start(Script::from_json(&std::fs::read_to_string(path)?)?).await?;
    writeln!(std::io::stdout(), "{}", model.url())?;
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    for request in model.requests() {
        writeln!(std::io::stdout(), "{}", String::from_utf8_lossy(&request.body))?;
    }
    Ok(())
}
