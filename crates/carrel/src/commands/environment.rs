//! `carrel environment`: how sandboxes are made ready, and what they may reach.

mod change;
mod flags;
mod text;

use carrel_domain::EnvironmentName;
use carrel_wire::{CacheReset, Environment, EnvironmentList};
use serde_json::json;

use super::{location, terminal};
use crate::cli::environment::{ContentArguments, EnvironmentCommand, Removals};
use crate::client::Client;
use crate::exit::Failure;
use crate::output;
use crate::settings::Settings;
use flags::Asked;

pub(crate) async fn environment(command: EnvironmentCommand, settings: &Settings, json: bool) -> Result<(), Failure> {
    let client = Client::find(settings)?;
    match command {
        EnvironmentCommand::Create { name, content } => create(&client, name, *content, json).await,
        EnvironmentCommand::List => list(&client, json).await,
        EnvironmentCommand::Show { name } => show(&client, &name, json).await,
        EnvironmentCommand::Edit { name, content, removals } => edit(&client, &name, *content, removals, json).await,
        EnvironmentCommand::Delete { name } => delete(&client, &name, json).await,
        EnvironmentCommand::Try { name, repository } => {
            let repository = repository.map(|repository| location(&client, &repository)).transpose()?;
            terminal::in_environment(&client, &path(&name)?, repository.as_deref()).await
        }
        EnvironmentCommand::ResetCache { name } => reset_cache(&client, &name, json).await,
    }
}

async fn create(client: &Client, name: String, content: ContentArguments, json: bool) -> Result<(), Failure> {
    let repositories = locations(client, &content.repository)?;
    let change = change::of(content, None)?;
    let asked = Asked::by(&change);
    let mut body = serde_json::to_value(change).map_err(|error| Failure::service(error.to_string()))?;
    body["name"] = name.into();
    if !repositories.is_empty() {
        body["repositories"] = repositories.into();
    }
    let made = client.post::<Environment>("environments", &body).await;
    let made = made.map_err(|failure| failure.reworded(|error| asked.in_flags(error)))?;
    if json {
        return output::document(&made);
    }
    let way_on = format!("use it with `carrel task create --environment {}`", made.name);
    output::line(&format!("{}\n{way_on}", text::environment(&made)))
}

async fn list(client: &Client, json: bool) -> Result<(), Failure> {
    let all: EnvironmentList = client.get("environments").await?;
    if json { output::document(&all) } else { output::line(&text::environments(&all)) }
}

async fn show(client: &Client, name: &str, json: bool) -> Result<(), Failure> {
    let found: Environment = client.get(&path(name)?).await?;
    if json { output::document(&found) } else { output::line(&text::environment(&found)) }
}

async fn edit(
    client: &Client,
    name: &str,
    content: ContentArguments,
    removals: Removals,
    json: bool,
) -> Result<(), Failure> {
    let path = path(name)?;
    let more = locations(client, &content.repository)?;
    let clear = removals.clear_repositories;
    let mut change = change::of(content, Some(removals))?;
    // The service adds to what is there when it is asked: whoever edits at the same time is not in the way.
    if clear {
        change.repositories = Some(Some(more));
    } else {
        change.repositories_add = more;
    }
    let changed = client.patch::<Environment>(&path, &change).await;
    let changed = changed.map_err(|failure| failure.reworded(|error| Asked::by(&change).in_flags(error)))?;
    if json { output::document(&changed) } else { output::line(&text::environment(&changed)) }
}

async fn delete(client: &Client, name: &str, json: bool) -> Result<(), Failure> {
    client.delete(&path(name)?).await?;
    if json { output::document(&json!({ "deleted": name })) } else { output::line("the environment is gone") }
}

async fn reset_cache(client: &Client, name: &str, json: bool) -> Result<(), Failure> {
    let reset: CacheReset = client.post(&format!("{}/reset-cache", path(name)?), &json!({})).await?;
    if json {
        return output::document(&reset);
    }
    output::line(match reset.snapshots {
        0 => "there is nothing to reset: no prepared environment is kept",
        _ => "the next attempt prepares the environment anew",
    })
}

/// The path of an environment. A name that could be read as another path never gets into one.
fn path(name: &str) -> Result<String, Failure> {
    let name: EnvironmentName = name
        .parse()
        .map_err(|error: carrel_domain::environment::InvalidEnvironment| Failure::refused_here(error.to_string()))?;
    Ok(format!("environments/{name}"))
}

fn locations(client: &Client, texts: &[String]) -> Result<Vec<String>, Failure> {
    texts.iter().map(|text| location(client, text)).collect()
}
