//! Behind the door of a sandbox whose agent runs inside: its requests reach the attempt's model, each by itself, and end
//! with the agent.

use std::convert::Infallible;

use carrel_agent::{AgentContext, AgentError, AgentTask, Finished, GuestModel, GuestRequest, run_guest};
use carrel_egress::{ModelAnswer, ModelRequest};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::Agent;

/// Runs an agent inside to its end, with the model behind its door.
pub(super) async fn run(
    agent: &Agent,
    task: AgentTask,
    asked: mpsc::Receiver<ModelRequest>,
    context: &AgentContext<'_>,
) -> Result<Finished, AgentError> {
    let model = GuestModel::new(
        context.endpoint.clone(),
        context.client.clone(),
        context.journal.clone(),
        context.redactor.clone(),
        task.limits,
        task.spent,
    );
    tokio::select! {
        ended = Box::pin(run_guest(&agent.guest, task, &model, context)) => ended,
        never = serve(&model, asked) => match never {},
    }
}

/// Serves what comes through, for as long as it is polled.
async fn serve(model: &GuestModel, mut requests: mpsc::Receiver<ModelRequest>) -> Infallible {
    let mut open = JoinSet::new();
    while let Some(request) = requests.recv().await {
        while open.try_join_next().is_some() {}
        let model = model.clone();
        open.spawn(async move {
            let ModelRequest { method, path, headers, body, answer } = request;
            let answered = |head: carrel_agent::GuestAnswer| {
                let head = ModelAnswer { status: head.status, content_type: head.content_type, body: head.body };
                // A client that has gone needs no answer.
                let _gone = answer.send(head);
            };
            model.serve(GuestRequest { method, path, headers, body }, answered).await;
        });
    }
    // The stream to the sandbox is gone; whoever works in it finds that out by itself.
    std::future::pending().await
}
