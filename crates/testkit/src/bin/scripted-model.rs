//! The scripted model server as a program of its own, for trying things by hand: `scripted-model SCRIPT.json` prints the
//! base URL to give to `CARREL_MODEL_URL`, and serves until it is interrupted.

use std::process::ExitCode;

use carrel_testkit::model::{Script, ScriptedModel};

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a program for the terminal")]
async fn main() -> ExitCode {
    let Some(file) = std::env::args().nth(1) else {
        eprintln!("usage: scripted-model SCRIPT.json (the format is that of carrel_testkit::model::Script)");
        return ExitCode::from(2);
    };
    let script = std::fs::read_to_string(&file)
        .map_err(|error| error.to_string())
        .and_then(|text| Script::from_json(&text).map_err(|error| error.to_string()));
    let server = match script {
        Ok(script) => ScriptedModel::start(script).await.map_err(|error| error.to_string()),
        Err(error) => Err(error),
    };
    match server {
        Ok(server) => {
            println!("{}", server.url());
            std::future::pending::<()>().await;
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{file}: {error}");
            ExitCode::from(2)
        }
    }
}
